/** Bounds of the histogram of durations, in seconds. */
const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

interface Durations {
  readonly counts: number[];
  sum: number;
  total: number;
}

/** What is asked for when the metrics are read. */
export interface Gauges {
  readonly [name: string]: readonly [help: string, value: number];
}

/** Counters and one histogram, in Prometheus's text format. */
export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #durations = new Map<string, Durations>();
  readonly #counters = new Map<string, { readonly help: string; value: number }>();

  /** Label values come from a closed set (routes and status codes), so that a client cannot make them grow. */
  request(route: string, status: number, seconds: number): void {
    const labels = `route="${route}",status="${status}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    const known = this.#durations.get(route) ?? { counts: BOUNDS.map(() => 0), sum: 0, total: 0 };
    this.#durations.set(route, known);
    known.sum += seconds;
    known.total++;
    BOUNDS.forEach((bound, n) => {
      if (seconds <= bound) known.counts[n]!++;
    });
  }

  count(name: string, help: string, by = 1): void {
    const known = this.#counters.get(name) ?? { help, value: 0 };
    this.#counters.set(name, known);
    known.value += by;
  }

  text(gauges: Gauges): string {
    const lines: string[] = [];
    const head = (name: string, type: string, help: string): void => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    };
    head('image2text_requests_total', 'counter', 'Requests answered, by route and status; 499: the client had left.');
    for (const [labels, value] of this.#requests) lines.push(`image2text_requests_total{${labels}} ${value}`);
    head('image2text_request_duration_seconds', 'histogram', 'From the head of a request to the end of its answer.');
    for (const [route, { counts, sum, total }] of this.#durations) {
      const name = 'image2text_request_duration_seconds';
      BOUNDS.forEach((bound, n) => void lines.push(`${name}_bucket{route="${route}",le="${bound}"} ${counts[n]}`));
      lines.push(`${name}_bucket{route="${route}",le="+Inf"} ${total}`);
      lines.push(`${name}_sum{route="${route}"} ${sum}`, `${name}_count{route="${route}"} ${total}`);
    }
    for (const [name, { help, value }] of this.#counters) {
      head(name, 'counter', help);
      lines.push(`${name} ${value}`);
    }
    for (const [name, [help, value]] of Object.entries(gauges)) {
      head(name, 'gauge', help);
      lines.push(`${name} ${value}`);
    }
    return `${lines.join('\n')}\n`;
  }
}
