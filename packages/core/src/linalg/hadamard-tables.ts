/**
 * The Hadamard matrices of orders that are no power of two, as published: N. J. A. Sloane's library of Hadamard matrices, from which
 * QuIP#, QuaRot and QWHA took theirs. A Hadamard matrix of an order is not unique, and files store coefficients that belong to one of
 * them. A row is written in hexadecimal, most significant bit first, 1 for +1 and 0 for -1.
 */
export const fullTables: ReadonlyMap<number, readonly string[]> = new Map([
  [
    28,
    "fffdfff ec36b0d f61b586 bb0eac3 dd87561 eec3ab0 b762d58 9bb26ac 8dda356 86ee1ab c3770d5 e1bb86a b0dec35 d86f61a 7ffc000 ac344f2 d618279 ab0d13c d58489e eac044f b561227 9ab1913 8d59c89 86ade44 c354f22 e1a8791 b0d53c8 d8689e4".split(
      " ",
    ),
  ],
  [
    36,
    "ffffdffff f462ed18b fa31768c5 fd18bb462 be8c6da31 df4636d18 afa32b68c 97d1a5b46 8be8e2da3 c5f4716d1 e2fa38b68 b17d2c5b4 98bea62da 8c5f6316d c62fb18b6 a317e8c5b d18bf462d e8c5fa316 7fffc0000 b462c2e74 da314173a ed1880b9d b68c505ce db46082e7 ada314173 96d19a0b9 8b68dd05c c5b44e82e e2da07417 b16d13a0b 98b699d05 8c5b5ce82 c62d8e741 a316d73a0 d18b4b9d0 e8c585ce8".split(
      " ",
    ),
  ],
  [
    40,
    "8000080000 d8579d8579 ec2bcec2bc b615eb615e 9b0af9b0af cd857cd857 e6c2be6c2b f3615f3615 f9b0af9b0a bcd85bcd85 de6c2de6c2 af361af361 d79b0d79b0 abcd8abcd8 95e6c95e6c 8af368af36 8579b8579b c2bcdc2bcd e15e6e15e6 b0af3b0af3 800007ffff d857927a86 ec2bc13d43 b615e49ea1 9b0af64f50 cd857327a8 e6c2b193d4 f36150c9ea f9b0a064f5 bcd854327a de6c22193d af36150c9e d79b02864f abcd854327 95e6c6a193 8af36750c9 8579b7a864 c2bcd3d432 e15e61ea19 b0af34f50c".split(
      " ",
    ),
  ],
]);

/**
 * Orders 4 p made of 4 x 4 circulant blocks of order p (Williamson's construction and its relatives): the first row of each row
 * of blocks.
 */
export const circulantTables: ReadonlyMap<number, readonly string[]> = new Map([
  [52, ["a7947e34cb090", "703d3c9edfa65", "2cd42429e4e07", "7b7966a3f14f2"]],
  [
    156,
    [
      "e504c320a7e2614a191f9a2909459c6a0edc158",
      "0ecf5af371ca0986414dcaf891f53f3452128b3",
      "1975bdae991a83b7056394130c8298767ad79b8",
      "72be247d4e32eb7b5d33c4c294323f282619053",
    ],
  ],
  [
    172,
    [
      "8cf5d9baf31bf0a6d943f7acaf42f535e3d260192f1",
      "207ac935e0519ebb375e60e16cff36877595e85ea6b",
      "14d42f42b298f498064bc633d766ebcc103d649af02",
      "385b3fcda1c29a85e856537e14db287ec67aecdd798",
    ],
  ],
]);

/** Orders q + 1 by Paley's first construction, q prime and q mod 4 = 3. */
export const paleyOrders: readonly number[] = [12, 20, 60, 108, 140];
