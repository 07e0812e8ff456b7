// Pictures of this server in <img>. With an API key their bytes come by fetch, since <img> sends none; without one the browser does it all, but for previews,
// which no cache keeps: several panels show each.
import * as api from "./api.js";

const BLOBS = 400;
const blobs = new Map(); // url → promise of a blob's address, the one used longest ago first

/** An address that <img> can show. `fetched`: the bytes come by fetch, once for all who ask. */
export function address(url, fetched = api.hasKey()) {
  if (!fetched || !url.startsWith("/api/")) return url;
  const there = blobs.get(url) ?? api.bytes(url).then((blob) => URL.createObjectURL(blob));
  blobs.delete(url);
  blobs.set(url, there);
  there.catch(() => blobs.delete(url));
  if (blobs.size > BLOBS) {
    const [oldest, gone] = blobs.entries().next().value;
    blobs.delete(oldest);
    gone.then((blob) => URL.revokeObjectURL(blob), () => {});
  }
  return there;
}

/** Shows it at once. */
export async function showPicture(image, url) {
  image.dataset.url = url;
  try {
    const source = await address(url);
    if (image.dataset.url === url) image.src = source;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    showPicture(target, target.dataset.url);
  }
}, { rootMargin: "800px" });

/** Shows it when it comes near the screen. */
export function showWhenNear(image, url) {
  image.dataset.url = url;
  near.observe(image);
}

/** Shows what changes: the newest address that is told, the one before until it is there; what comes while one is on its way replaces what waited. `still`
 * says whether the image still is this one's. */
export function livePicture(image, still = () => true) {
  let shown = null, wanted = null, busy = false;
  async function next() {
    if (busy || wanted === shown || wanted === null) return;
    busy = true;
    const url = wanted, loader = new Image();
    try {
      loader.src = await address(url, true);
      await loader.decode();
      if (still()) {
        Object.assign(image, { src: loader.src, hidden: false });
        image.dataset.url = url;
      }
    } catch { /* its task went on or is over */ }
    shown = url;
    busy = false;
    next();
  }
  return (url) => {
    wanted = url;
    next();
  };
}
