import { behaviourMatrix } from "./testing/behaviour/matrix.ts";

behaviourMatrix("experts");
