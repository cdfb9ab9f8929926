/** True for the points of a shape, whose extent is the square [-1, 1] x [-1, 1], y upwards. */
type Inside = (x: number, y: number) => boolean;

const radius = Math.hypot;

/** A regular polygon, one corner up. */
const polygon =
  (corners: number): Inside =>
  (x, y) => {
    const part = (2 * Math.PI) / corners;
    const angle = Math.atan2(x, y) + 2 * Math.PI;
    return radius(x, y) * Math.cos((angle % part) - part / 2) <= Math.cos(part / 2);
  };

/** A star of five points: its edge runs straight from an outer to an inner corner. */
const star: Inside = (x, y) => {
  const half = Math.PI / 5;
  const turned = (Math.atan2(x, y) + 2 * Math.PI) % (2 * half);
  const angle = Math.min(turned, 2 * half - turned); // from the nearest outer corner, 0 to half
  const inner = 0.4;
  const edge = (inner * Math.sin(half)) / (Math.sin(half - angle) * inner + Math.sin(angle));
  return radius(x, y) <= edge;
};

/** Shapes by the word for them. */
export const shapeKinds: Readonly<Record<string, Inside>> = {
  circle: (x, y) => radius(x, y) <= 0.95,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.8,
  triangle: polygon(3),
  star,
  cross: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.95 && Math.min(Math.abs(x), Math.abs(y)) <= 0.3,
  ring: (x, y) => radius(x, y) <= 0.95 && radius(x, y) >= 0.55,
  diamond: (x, y) => Math.abs(x) / 0.65 + Math.abs(y) <= 1,
  crescent: (x, y) => radius(x, y) <= 0.95 && radius(x - 0.45, y) >= 0.75,
  frame: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85 && Math.max(Math.abs(x), Math.abs(y)) >= 0.5,
  bar: (x, y) => Math.abs(x) <= 0.95 && Math.abs(y) <= 0.3,
  pole: (x, y) => Math.abs(x) <= 0.3 && Math.abs(y) <= 0.95,
  heart: (x, y) => (x * x * 1.5 + (y * 1.15 + 0.1) ** 2 - 0.55) ** 3 <= x * x * 1.5 * (y * 1.15 + 0.1) ** 3 * 1.4,
  arrow: (x, y) => (y >= 0 ? Math.abs(x) <= 0.9 * (1 - y) : y >= -0.95 && Math.abs(x) <= 0.28),
  corner: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85 && (x <= -0.25 || y <= -0.25),
  tee: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.9 && (y >= 0.35 || Math.abs(x) <= 0.28),
  chevron: (x, y) => Math.abs(x) <= 0.95 && Math.abs(y - 0.45 + 0.95 * Math.abs(x)) <= 0.4,
};
