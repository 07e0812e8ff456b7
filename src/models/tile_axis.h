/* One direction of a tiling: how a length is cut into tiles of one size that overlap, and how their results are blended. Pure arithmetic.
 *
 * The fewest tiles whose neighbours overlap by at least a quarter, spread evenly from end to end. */
#ifndef IMAGINED_MODELS_TILE_AXIS_H
#define IMAGINED_MODELS_TILE_AXIS_H

typedef struct tile_axis {
    int length, size, count; /* in cells: of the whole, of a tile; the number of tiles */
} tile_axis;

/* `tile` 0, or no smaller than the length: one tile of it all. `length` ≥ 1, `tile` ≥ 4 otherwise. */
tile_axis tile_axis_of(int length, int tile);
/* The cell that tile i, 0 … count − 1, starts at. */
int tile_axis_first(const tile_axis *a, int i);
/* How much of each pixel comes from tile i: size · factor weights, 0 … 1, where a cell becomes `factor` pixels. Over all tiles a pixel's
 * weights add up to 1, and at most two are over 0: along a seam the one's falls and the other's rises linearly over the whole overlap, or,
 * where a third tile overlaps as well, over as much of it as keeps seams apart. */
void tile_axis_weigh(const tile_axis *a, int i, int factor, float *weights);

#endif
