/* ui/index.html, as it was when this was built. */
#ifndef IMAGINED_SERVER_PAGE_H
#define IMAGINED_SERVER_PAGE_H

extern const char page_html[]; /* NUL-terminated */

#endif
