/* Latents as FluxPipeline packs them: each 2×2 patch of cells becomes one token. FluxPipeline._pack_latents, _unpack_latents. */
#ifndef IMAGINED_MODELS_FLUX_LATENTS_H
#define IMAGINED_MODELS_FLUX_LATENTS_H

/* planes [channels][2·rows][2·columns] → tokens [rows·columns][channels·4], the patch's cells (0,0) (0,1) (1,0) (1,1) beside each other
 * within a channel. */
void flux_latents_pack(const float *planes, int channels, int rows, int columns, float *tokens);
/* The way back. */
void flux_latents_unpack(const float *tokens, int channels, int rows, int columns, float *planes);

#endif
