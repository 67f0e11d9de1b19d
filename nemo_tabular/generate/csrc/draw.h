/* A block's hidden states come in; the distributions of a slot's codes, and codes drawn from them, leave. */

#ifndef DRAW_H
#define DRAW_H

#include "network.h"

#define GOLDEN 0x9E3779B97F4A7C15ull
#define HEAD_FLOATS (1 << 18) /* logits at a time: 1 MB */

typedef struct {
  uint64_t seed, first_row;
  int64_t rows, given_rows;
  int32_t given_slots, share, top_k, wide; /* wide: codes leave as int32, else as uint16 */
  double inverse_temperature, top_p;
  const int32_t *given;     /* (given_rows, given_slots) */
  const float *const *bias; /* of each slot, padded to panels with minus infinity */
  void *out;                /* (rows, slots) */
} Request;

/* One block's activations, and one node's distribution. */
typedef struct {
  const Model *m;
  const Request *r;
  long width;         /* W */
  float *x, *y, *wide, *logits;
  const float **keys; /* of one query */
  vf *score;
  double *cumulative;
  uint64_t *ranked;
} Scratch;

static inline uint64_t mix(uint64_t x) { /* splitmix64, as in uniforms.py */
  x += GOLDEN;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

/* ---- the end of a layer, and the output layer ---- */

static void mlp(Scratch *s, int l, long rows) {
  const Model *m = s->m;
  const Layer *p = m->layer + l;
  norm(m, s->x, s->y, rows, p->norm2_w, p->norm2_b);
  gemm(s->y, m->hp, rows, m->hp, p->fc1, m->fp, s->wide, m->fp, NULL, m->gelu ? GELU : SQUARED_RELU);
  gemm(s->wide, m->fp, rows, m->fp, p->fc2, m->hp, s->x, m->hp, NULL, ADD);
}

/* Rows whose logits are made at a time. */
static long head_rows(long padded) {
  long rows = HEAD_FLOATS / padded / STRIP * STRIP;
  return rows < STRIP ? STRIP : rows > NB ? NB : rows;
}

/* Logits of the hidden states of rows start ... end - 1. */
static void head(Scratch *s, int slot, int start, int end) {
  const Model *m = s->m;
  long padded = up(m->sizes[slot], PANEL);
  gemm(s->y + start * m->hp, m->hp, up(end - start, STRIP), m->hp, m->head[slot], padded, s->logits, padded,
       s->r->bias[slot], BIAS);
}

/* ---- drawing ---- */

static int falling(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? 1 : x > y ? -1 : 0;
}

/* Keep the top_k most probable codes, then the fewest of them that hold top_p of what is left; equals: lower code first. */
static void filter(Scratch *s, float *p, int size) {
  const Request *r = s->r;
  int keep = r->top_k > 0 && r->top_k < size ? r->top_k : size;
  for (int c = 0; c < size; c++) { /* bits of positive floats sort as their values do */
    uint32_t bits;
    memcpy(&bits, p + c, 4);
    s->ranked[c] = (uint64_t)bits << 32 | (uint32_t)(size - c);
  }
  qsort(s->ranked, size, sizeof *s->ranked, falling);
  double total = 0, before = 0;
  for (int i = 0; i < keep; i++) total += p[size - (uint32_t)s->ranked[i]];
  for (int i = 0; i < size; i++) {
    float *q = p + (size - (uint32_t)s->ranked[i]);
    double share = *q;
    if (i >= keep || (r->top_p < 1 && before >= r->top_p * total)) *q = 0;
    before += share;
  }
}

/* Logits become weights; s->cumulative their running sums, a vector of codes at a time. Their total, 0 if not finite. */
static double weigh(Scratch *s, float *p, int size) {
  vf top = splat(-INFINITY);
  for (int c = 0; c < size; c += VL) top = larger(top, load(p + c));
  top = lane_max(top);
  float sharpness = (float)(s->r->inverse_temperature * 1.4426950408889634);
  vi sane = top < splat(INFINITY);
  for (int c = 0; c < size; c += VL) {
    sane &= load(p + c) <= top; /* false for NaN */
    store(p + c, exp2_below((load(p + c) - top) * sharpness));
  }
  for (int i = 0; i < VL; i++) if (!sane[i]) return 0;
  if (s->r->top_k > 0 || s->r->top_p < 1) filter(s, p, size);
  double total = 0;
  for (int c = 0; c < size; c += VL) s->cumulative[c / VL] = total += lane_sum(load(p + c), 1)[0];
  return total;
}

/* The first code whose running sum exceeds `target` < total: never one of weight 0. */
static inline int32_t invert(const double *cumulative, const float *p, int size, double target) {
  int low = 0, high = (size + VL - 1) / VL - 1;
  while (low < high) {
    int middle = (low + high) / 2;
    if (cumulative[middle] > target) high = middle; else low = middle + 1;
  }
  double sum = low ? cumulative[low - 1] : 0;
  int code = low * VL, likely = code;
  for (int i = 0; i < VL; i++) {
    if (p[code + i] > 0) likely = code + i;
    sum += p[code + i];
    if (sum > target) return likely;
  }
  return likely; /* the vector's own sum is rounded otherwise than the running one */
}

/* ---- memory ---- */

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes / 64 + 2) * 64); }

/* Memory for the blocks of a model, queries looking at up to `keys` keys; to be freed in any case. 0 if there is none. */
static int take_scratch(Scratch *s, const Model *m, int64_t keys) {
  *s = (Scratch){.m = m, .width = (long)m->groups * m->vectors * VL};
  int64_t largest = 0;
  for (int t = 0; t < m->slots; t++) largest = m->sizes[t] > largest ? m->sizes[t] : largest;
  int64_t padded = up(largest, PANEL), spread = up(3 * s->width, PANEL), logits = 0;
  for (int t = 0; t < m->slots; t++) {
    int64_t floats = head_rows(up(m->sizes[t], PANEL)) * up(m->sizes[t], PANEL);
    logits = floats > logits ? floats : logits;
  }
  s->x = aligned(NB * m->hp * 4);
  s->y = aligned((NB + STRIP) * (s->width > m->hp ? s->width : m->hp) * 4);
  s->wide = aligned(NB * (spread > m->fp ? spread : m->fp) * 4);
  s->logits = aligned(logits * 4);
  s->keys = aligned(keys * sizeof *s->keys);
  s->score = aligned(keys * sizeof *s->score);
  s->cumulative = aligned(padded / VL * 8);
  s->ranked = aligned(padded * 8);
  return s->x && s->y && s->wide && s->logits && s->keys && s->score && s->cumulative && s->ranked;
}

static void free_scratch(Scratch *s) {
  void *all[] = {s->x, s->y, s->wide, s->logits, s->keys, s->score, s->cumulative, s->ranked};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

#endif
