import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { adalora } from "./adalora.ts";
import { adaptionPrompt } from "./adaption-prompt.ts";
import { arrow } from "./arrow.ts";
import { beft } from "./beft.ts";
import { bitfit } from "./bitfit.ts";
import { boft } from "./boft.ts";
import { bottleneck } from "./bottleneck.ts";
import { c3a } from "./c3a.ts";
import { compacter } from "./compacter.ts";
import { composition } from "./composition.ts";
import { delora } from "./delora.ts";
import { dylora } from "./dylora.ts";
import { fourierFt } from "./fourier-ft.ts";
import { frod } from "./frod.ts";
import { full } from "./full.ts";
import { glora } from "./glora.ts";
import { gralora } from "./gralora.ts";
import { hira } from "./hira.ts";
import { hra } from "./hra.ts";
import { hydra } from "./hydra.ts";
import { ia3 } from "./ia3.ts";
import { kronA } from "./kron-a.ts";
import { lily } from "./lily.ts";
import { lnTuning } from "./ln-tuning.ts";
import { loca } from "./loca.ts";
import { loha } from "./loha.ts";
import { lokr } from "./lokr.ts";
import { loldu } from "./loldu.ts";
import { lora } from "./lora.ts";
import type { Method } from "./method.ts";
import { miss } from "./miss.ts";
import { mos } from "./mos.ts";
import { multitaskPromptTuning } from "./multitask-prompt-tuning.ts";
import { oft } from "./oft.ts";
import { pTuning } from "./p-tuning.ts";
import { paca } from "./paca.ts";
import { poly } from "./poly.ts";
import { prefixTuning } from "./prefix-tuning.ts";
import { promptTuning } from "./prompt-tuning.ts";
import { psoft } from "./psoft.ts";
import { pvera } from "./pvera.ts";
import { qwha } from "./qwha.ts";
import { randlora } from "./randlora.ts";
import { road } from "./road.ts";
import { shira } from "./shira.ts";
import { svf } from "./svf.ts";
import { tinyLora } from "./tinylora.ts";
import { tlora } from "./tlora.ts";
import { trainableTokens } from "./trainable-tokens.ts";
import { triAdaptLora } from "./tri-adapt-lora.ts";
import { unilora } from "./unilora.ts";
import { vblora } from "./vblora.ts";
import { vera } from "./vera.ts";
import { waveFt } from "./waveft.ts";
import { xlora } from "./xlora.ts";

/** Methods made of methods. */
export const composed = composition((type) => methodOf(type));

const methods: readonly Method[] = [
  ...[
    lora,
    adalora,
    triAdaptLora,
    dylora,
    hydra,
    vera,
    pvera,
    vblora,
    unilora,
    lily,
    mos,
    randlora,
    delora,
    gralora,
    miss,
    tinyLora,
  ],
  ...[loha, lokr, kronA, tlora, hira, glora],
  ...[oft, boft, psoft, hra, road],
  ...[fourierFt, waveFt, loca, qwha, c3a, shira, paca],
  ...[svf, loldu, frod],
  ...[bottleneck, compacter],
  ...[poly],
  ...[ia3, bitfit, beft, lnTuning, trainableTokens, full],
  ...[arrow, xlora],
  ...[prefixTuning, adaptionPrompt, promptTuning, pTuning, multitaskPromptTuning],
  composed,
];

/** Every method this version has. */
export const listMethods = (): readonly Method[] => methods;

/**
 * The method of a `peft_type`.
 * @throws PeftError UNKNOWN_METHOD
 * @example
 * methodOf("LORA").paper; // "2106.09685"
 */
export function methodOf(type: string): Method {
  const method = methods.find((m) => m.type === type.toUpperCase());
  if (method) return method;
  const types = methods.map((m) => m.type);
  const near = nearestName(type, types);
  throw new PeftError("UNKNOWN_METHOD", `No method is called "${type}".`, {
    hint: near ? `Did you mean "${near}"?` : `Methods are ${types.join(", ")}.`,
  });
}
