/** A pipe of a flow network: from vertex `from` to vertex `to`. */
export interface Pipe {
  readonly from: number;
  readonly to: number;
  /** May be infinite. */
  readonly capacity: number;
}

export interface MinimumCut {
  /** Sum of the capacities cut; infinite when every cut has an infinite pipe. */
  readonly cost: number;
  /** Whether a vertex stays with the source. Of all minimum cuts, the one with most vertices there. */
  readonly withSource: readonly boolean[];
}

/** Capacities below this share of the largest finite one are rounding errors. */
const EPSILON = 1e-9;

/**
 * Minimum cut of a network by augmenting shortest paths (Edmonds and Karp 1972). Costs O(pipes) per path; paths are as many
 * as finite pipes get full.
 * @param vertices how many there are; pipes name them 0 .. vertices-1.
 */
export function minimumCut(vertices: number, pipes: readonly Pipe[], source: number, sink: number): MinimumCut {
  // Pipe i is residual edge 2i, its reverse 2i+1.
  const target = new Int32Array(2 * pipes.length);
  const residual = new Float64Array(2 * pipes.length);
  const leaving: number[][] = Array.from({ length: vertices }, () => []);
  let largest = 0;
  pipes.forEach(({ from, to, capacity }, i) => {
    target[2 * i] = to;
    target[2 * i + 1] = from;
    residual[2 * i] = capacity;
    leaving[from]?.push(2 * i);
    leaving[to]?.push(2 * i + 1);
    if (capacity !== Number.POSITIVE_INFINITY) largest = Math.max(largest, capacity);
  });
  const least = largest * EPSILON;
  const isOpen = (edge: number): boolean => (residual[edge] as number) > least;
  let cost = 0;
  for (;;) {
    const arrivedBy = shortestPath(source, sink, vertices, { leaving, target, isOpen });
    if (!arrivedBy) break;
    let flow = Number.POSITIVE_INFINITY;
    const path: number[] = [];
    for (let at = sink; at !== source; ) {
      const edge = arrivedBy[at] as number;
      path.push(edge);
      flow = Math.min(flow, residual[edge] as number);
      at = target[edge ^ 1] as number;
    }
    cost += flow;
    if (flow === Number.POSITIVE_INFINITY) break;
    for (const edge of path) {
      residual[edge] = (residual[edge] as number) - flow;
      residual[edge ^ 1] = (residual[edge ^ 1] as number) + flow;
    }
  }
  // Vertices that can still reach the sink go with it; all others stay with the source.
  const withSource = new Array<boolean>(vertices).fill(true);
  withSource[sink] = false;
  const queue = [sink];
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    for (const edge of leaving[at] ?? []) {
      const before = target[edge] as number;
      if (!withSource[before] || !isOpen(edge ^ 1)) continue;
      withSource[before] = false;
      queue.push(before);
    }
  }
  return { cost, withSource };
}

interface Residual {
  readonly leaving: readonly (readonly number[])[];
  readonly target: Int32Array;
  isOpen(edge: number): boolean;
}

/** The edge by which each vertex is first reached; null when the sink is not. */
function shortestPath(
  source: number,
  sink: number,
  vertices: number,
  { leaving, target, isOpen }: Residual,
): Int32Array | null {
  const arrivedBy = new Int32Array(vertices).fill(-1);
  const queue = [source];
  for (let next = 0; next < queue.length; next++) {
    for (const edge of leaving[queue[next] as number] ?? []) {
      const to = target[edge] as number;
      if (to === source || arrivedBy[to] !== -1 || !isOpen(edge)) continue;
      arrivedBy[to] = edge;
      if (to === sink) return arrivedBy;
      queue.push(to);
    }
  }
  return null;
}
