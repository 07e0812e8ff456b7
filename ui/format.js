// Figures as people read them.

const units = ["B", "kB", "MB", "GB", "TB"];

export function bytes(n) {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${unit === 0 || n >= 99.5 ? Math.round(n) : n >= 9.95 ? n.toFixed(1) : n.toFixed(2)} ${units[unit]}`;
}

export function seconds(s) {
  if (s < 0.95) return `${Math.max(0.01, s).toFixed(s < 0.095 ? 2 : 1)} s`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function ago(when) {
  const s = (Date.now() - Date.parse(when)) / 1000;
  return s < 5 ? "just now" : `${seconds(Math.max(5, s))} ago`;
}

export const count = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;

export const title = (s) => s.charAt(0).toUpperCase() + s.slice(1);
