/* Preloaded into a server: the system says of every user that ANOTHER_HOME is the home folder. */
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>

struct passwd *getpwuid(uid_t uid) {
    static char name[] = "somebody";
    static struct passwd user;
    user = (struct passwd){.pw_name = name, .pw_uid = uid, .pw_dir = getenv("ANOTHER_HOME")};
    return user.pw_dir != NULL ? &user : NULL;
}
