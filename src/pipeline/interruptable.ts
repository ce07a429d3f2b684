/**
 * Transformers.js's way to end a text early and keep what is there: pass it as `stopping_criteria` and call `interrupt()`. A class, because
 * it is made with `new`.
 */
export class InterruptableStoppingCriteria {
  interrupted = false;

  interrupt(): void {
    this.interrupted = true;
  }

  reset(): void {
    this.interrupted = false;
  }
}
