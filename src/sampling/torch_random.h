/* The numbers torch.randn draws on the CPU generator, bit for bit.
 *
 * torch.Generator("cpu").manual_seed(seed) seeds MT19937 with the low 32 bits; randn of 16 or more f32 fills uniforms of 24 bits and turns
 * them, in blocks of 16, by Box–Muller into normals (ATen/native/cpu/DistributionTemplates.h, ATen/core/MT19937RNGEngine.h). The roundings
 * are those of PyTorch's vector code, which every x86-64 processor with AVX2 runs (its fall-back for older ones differs in last bits); they
 * are the same here on any processor. */
#ifndef IMAGINED_SAMPLING_TORCH_RANDOM_H
#define IMAGINED_SAMPLING_TORCH_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32), for any count. */
void torch_randn(uint64_t seed, float *out, size_t count);

#endif
