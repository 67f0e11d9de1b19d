/* A model's packed weights, a seed and row numbers come in; codes of rows leave. Compiled by kernel.py when first used.

   The rows of a tile form a tree: a node is a distinct prefix, computed once for all rows that share it. The tree is
   walked depth first in blocks of at most NB nodes, so a block's activations and all its ancestors' keys and values stay
   in the second-level cache, and memory does not grow with the rows.

   Every number is computed by the same operations in the same order wherever its node stands in whatever block (sums run
   along a row, vectors along columns, blocks are padded to whole strips), so the bits, and hence the rows, do not depend
   on how rows are split into tiles. Compile without -ffast-math, which would break that.

   Layout. Widths are padded with zeros: hidden hp and mlp fp to 32. Heads lie across vector lanes: with VL lanes, HL heads
   side by side and P = VL / HL elements of each, an attention row is [group][element / P][element % P][head], W floats. A
   score is then a few multiply-adds and log2(P) lane swaps, already copied to every lane that weights a value with it.
   Matrices are packed in panels of 32 columns: [column / 32][k][32]. Ids: 0 begins a row, 1 + offset[slot] + code else. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VL 16
#define MR 8
#elif defined(__AVX__)
#define VL 8
#define MR 2
#else
#define VL 4
#define MR 2
#endif
#define PANEL 32
#define NV (PANEL / VL)
#define STRIP 8            /* blocks are padded to whole strips of rows; MR divides it */
#define NB 128             /* nodes of a block: measured best of 32 ... 128 at 64 wide, where all fits 2 MB */
#define HEAD_FLOATS (1 << 18) /* logits at a time: 1 MB */
#define GOLDEN 0x9E3779B97F4A7C15ull

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

#if VL == 16
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s, \
                8 ^ s, 9 ^ s, 10 ^ s, 11 ^ s, 12 ^ s, 13 ^ s, 14 ^ s, 15 ^ s
#elif VL == 8
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s
#else
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s
#endif
#ifdef __clang__
#define SWAPPED(v, s) __builtin_shufflevector(v, v, SWAP(s))
#else
#define SWAPPED(v, s) __builtin_shuffle(v, (vi){SWAP(s)})
#endif

enum { STORE, ADD, SQUARED_RELU, GELU, BIAS };
enum { OK, OUT_OF_MEMORY, NOT_FINITE };

typedef struct {
  const float *norm1_w, *norm1_b, *qkv, *proj, *norm2_w, *norm2_b, *fc1, *fc2;
} Layer;

typedef struct {
  int32_t slots, layers, hidden, hp, fp, heads_in_lanes, groups, vectors, gelu, rms;
  float eps;
  const int32_t *sizes;    /* codes of each slot */
  const int64_t *offsets;  /* first id of each slot, without the 1 for the beginning */
  const float *input;      /* (1 + ids, hp): embedding plus position, by id; of histories (2 + ids, hp), without */
  const float *first;      /* (1 + ids, 3W): query, key, value of the first layer by id, or NULL */
  const float *mask;       /* (hp): 1 where hidden, 0 where padding */
  const float *final_w, *final_b;
  const float *const *head; /* panels of each slot */
  const Layer *layer;
  const float *position, *place; /* histories: (slots, hp) and (rows of a window + 1, hp), added to the input */
} Model;

typedef struct {
  uint64_t seed, first_row;
  int64_t rows, given_rows;
  int32_t given_slots, share, top_k, wide; /* wide: codes leave as int32, else as uint16 */
  double inverse_temperature, top_p;
  const int32_t *given;     /* (given_rows, given_slots) */
  const float *const *bias; /* of each slot, padded to panels with minus infinity */
  void *out;                /* (rows, slots) */
} Request;

typedef struct {          /* one slot of `count` documents, each at a position of its own; arrays (count) */
  int64_t count, capacity;  /* positions that a cache holds */
  int32_t slot, drawn;      /* drawn: whether any code is */
  const int32_t *lane, *id, *place, *position; /* cache; input; row of the window; positions before this one */
  const uint8_t *endless;   /* whether the document may not end here */
  const double *uniform;
  float *cache;             /* (lanes, layers, capacity, 2W) */
  int32_t *code;
} Step;

static inline long up(long n, long unit) { return (n + unit - 1) / unit * unit; }

/* ---- small vector mathematics ---- */

static inline vf splat(float x) { return x - (vf){0}; }
static inline vf load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf larger(vf a, vf b) { return choose(a > b, a, b); }

/* Sum over the lanes whose numbers differ in the bits of `step` ... VL / 2, in each of them. */
static inline vf lane_sum(vf v, int step) {
#if VL >= 16
  if (step <= 8) v += SWAPPED(v, 8);
#endif
#if VL >= 8
  if (step <= 4) v += SWAPPED(v, 4);
#endif
  if (step <= 2) v += SWAPPED(v, 2);
  if (step <= 1) v += SWAPPED(v, 1);
  return v;
}

static inline vf lane_max(vf v) {
#if VL >= 16
  v = larger(v, SWAPPED(v, 8));
#endif
#if VL >= 8
  v = larger(v, SWAPPED(v, 4));
#endif
  v = larger(v, SWAPPED(v, 2));
  return larger(v, SWAPPED(v, 1));
}

/* 2^x for x <= 0, to 2 units in the last place (polynomial of Cephes' exp2f); exactly 0 below 2^-126. */
static inline vf exp2_below(vf x) {
  const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to whole numbers */
  vi there = x >= splat(-126.0f);
  x = choose(there, x, splat(-126.0f));
  vf shifted = x + magic;
  vi whole = (vi)shifted - (vi)magic;
  vf f = x - (shifted - magic);
  vf p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  return (vf)(((vi)p + (whole << 23)) & there);
}

/* x * Phi(x); erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline vf gelu(vf x) {
  vf z = (vf)((vi)x & 0x7fffffff) * 0.70710678f;
  vf t = 1.0f / (z * 0.3275911f + 1.0f);
  vf p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  vf tail = p * t * exp2_below(z * z * -1.44269504f) * 0.5f; /* 1 - Phi(|x|) */
  return x * choose(x > 0.0f, 1.0f - tail, tail);
}

/* ---- the network's parts ---- */

/* C (rows, n) = or += f(A (rows, k) B); rows a multiple of STRIP, n of PANEL. */
static inline __attribute__((always_inline)) void panels(const float *a, long lda, long rows, long k, const float *b, long n,
                                                         float *c, long ldc, const float *bias, const int mode) {
  for (long col = 0; col < n; col += PANEL, b += k * PANEL)
    for (long row = 0; row < rows; row += MR) {
      const float *ar = a + row * lda;
      vf sum[MR][NV];
      for (int i = 0; i < MR; i++)
        for (int v = 0; v < NV; v++) sum[i][v] = mode == BIAS ? load(bias + col + v * VL) : (vf){0};
      for (long s = 0; s < k; s++) {
        vf bs[NV];
        for (int v = 0; v < NV; v++) bs[v] = load(b + s * PANEL + v * VL);
        for (int i = 0; i < MR; i++) {
          vf as = splat(ar[i * lda + s]);
          for (int v = 0; v < NV; v++) sum[i][v] += as * bs[v];
        }
      }
      for (int i = 0; i < MR; i++)
        for (int v = 0; v < NV; v++) {
          float *to = c + (row + i) * ldc + col + v * VL;
          vf x = sum[i][v];
          if (mode == ADD) x += load(to);
          if (mode == SQUARED_RELU) { x = larger(x, (vf){0}); x *= x; }
          if (mode == GELU) x = gelu(x);
          store(to, x);
        }
    }
}

static void gemm(const float *a, long lda, long rows, long k, const float *b, long n, float *c, long ldc,
                 const float *bias, int mode) {
  switch (mode) {
    case STORE: panels(a, lda, rows, k, b, n, c, ldc, bias, STORE); break;
    case ADD: panels(a, lda, rows, k, b, n, c, ldc, bias, ADD); break;
    case SQUARED_RELU: panels(a, lda, rows, k, b, n, c, ldc, bias, SQUARED_RELU); break;
    case GELU: panels(a, lda, rows, k, b, n, c, ldc, bias, GELU); break;
    default: panels(a, lda, rows, k, b, n, c, ldc, bias, BIAS);
  }
}

static void norm(const Model *m, const float *x, float *y, long rows, const float *w, const float *b) {
  for (long r = 0; r < rows; r++, x += m->hp, y += m->hp) {
    vf mean = (vf){0}, square = (vf){0};
    if (!m->rms) {
      for (int i = 0; i < m->hp; i += VL) mean += load(x + i);
      mean = lane_sum(mean, 1) / (float)m->hidden;
    }
    for (int i = 0; i < m->hp; i += VL) {
      vf d = (load(x + i) - mean) * load(m->mask + i);
      square += d * d;
    }
    float scale = 1.0f / sqrtf(lane_sum(square, 1)[0] / (float)m->hidden + m->eps);
    for (int i = 0; i < m->hp; i += VL) store(y + i, (load(x + i) - mean) * scale * load(w + i) + load(b + i));
  }
}

/* One query over `count` keys, each followed by its value W floats on. Scores are base-2 logarithms. */
static inline __attribute__((always_inline)) void attend_one(const Model *m, const float *q, const float *const *kv, int count,
                                                             vf *score, float *y, const int vectors) {
  long width = (long)m->groups * vectors * VL;
  for (int g = 0; g < m->groups; g++) {
    long at = (long)g * vectors * VL;
    vf top = splat(-INFINITY), total = (vf){0};
    for (int t = 0; t < count; t++) {
      vf s = (vf){0};
      for (int j = 0; j < vectors; j++) s += load(q + at + j * VL) * load(kv[t] + at + j * VL);
      score[t] = lane_sum(s, m->heads_in_lanes);
      top = larger(top, score[t]);
    }
    if (vectors <= 8) { /* sums in registers */
      vf sum[8];
      for (int j = 0; j < vectors; j++) sum[j] = (vf){0};
      for (int t = 0; t < count; t++) {
        vf e = exp2_below(score[t] - top);
        total += e;
        for (int j = 0; j < vectors; j++) sum[j] += e * load(kv[t] + width + at + j * VL);
      }
      for (int j = 0; j < vectors; j++) store(y + at + j * VL, sum[j] / total);
    } else {
      for (int t = 0; t < count; t++) total += score[t] = exp2_below(score[t] - top);
      for (int j = 0; j < vectors; j++) {
        vf sum = (vf){0};
        for (int t = 0; t < count; t++) sum += score[t] * load(kv[t] + width + at + j * VL);
        store(y + at + j * VL, sum / total);
      }
    }
  }
}

static void attend(const Model *m, const float *q, const float *const *kv, int count, vf *score, float *y) {
  switch (m->vectors) {
    case 2: attend_one(m, q, kv, count, score, y, 2); break;
    case 4: attend_one(m, q, kv, count, score, y, 4); break;
    case 8: attend_one(m, q, kv, count, score, y, 8); break;
    default: attend_one(m, q, kv, count, score, y, m->vectors);
  }
}

/* ---- the tree of prefixes ---- */

typedef struct { int32_t parent, code, low, high; } Child; /* rows order[low] ... order[high - 1] */

typedef struct {      /* the block in hand at one level; the nodes of deeper blocks descend from it */
  int32_t count, parent[NB], id[NB], low[NB], high[NB];
  float *kv;          /* (layers, NB, 2W) */
} Frame;

typedef struct {
  const Model *m;
  const Request *r;
  long width;         /* W */
  Frame *frame;
  Child *child;
  int64_t children, nodes;
  uint64_t *state;    /* of each row's uniform numbers */
  int32_t *order, *spare, *code, *tally;
  int32_t *path, *path_id; /* (NB, slots): each node's ancestors in their frames, and their ids */
  float *x, *y, *wide, *logits;
  const float **keys;
  vf *score;
  float *kv;          /* (slots, layers, NB, 2W), cut into the frames */
  double *cumulative;
  uint64_t *ranked;
  int status;
} Walk;

static inline uint64_t mix(uint64_t x) {
  x += GOLDEN;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

static inline double uniform(const Walk *w, int32_t row, int slot) {
  return (double)(mix(w->state[row] + (uint64_t)slot * GOLDEN) >> 11) * 0x1p-53;
}

static inline int32_t given_code(const Walk *w, int32_t row, int slot) {
  const Request *r = w->r;
  return r->given[(int64_t)((r->first_row + (uint64_t)row) % (uint64_t)r->given_rows) * r->given_slots + slot];
}

static void trace(Walk *w, int level) {
  int slots = w->m->slots;
  for (int i = 0; i < w->frame[level].count; i++)
    for (int t = level, at = i; t >= 0; at = w->frame[t--].parent[at]) {
      w->path[i * slots + t] = at;
      w->path_id[i * slots + t] = w->frame[t].id[at];
    }
}

/* Queries, keys and values of a layer: by id from the table, or computed; keys and values join the frame. */
static void attention(Walk *w, int level, int l, long rows, int last_use) {
  const Model *m = w->m;
  const Layer *p = m->layer + l;
  Frame *f = w->frame + level;
  long width = w->width, columns = up(3 * width, PANEL);
  int table = l == 0 && m->first, slots = m->slots;
  if (!table) {
    norm(m, w->x, w->y, rows, p->norm1_w, p->norm1_b);
    gemm(w->y, m->hp, rows, m->hp, p->qkv, columns, w->wide, columns, NULL, STORE);
    for (int i = 0; i < f->count; i++)
      memcpy(f->kv + ((long)l * NB + i) * 2 * width, w->wide + i * columns + width, 2 * width * sizeof(float));
  }
  if (last_use) return;
  for (int i = 0; i < f->count; i++) {
    for (int t = 0; t <= level; t++)
      w->keys[t] = table ? m->first + (long)w->path_id[i * slots + t] * 3 * width + width
                         : w->frame[t].kv + ((long)l * NB + w->path[i * slots + t]) * 2 * width;
    const float *q = table ? m->first + (long)f->id[i] * 3 * width : w->wide + i * columns;
    attend(m, q, w->keys, level + 1, w->score, w->y + i * width);
  }
  memset(w->y + f->count * width, 0, (rows - f->count) * width * sizeof(float));
  gemm(w->y, width, rows, width, p->proj, m->hp, w->x, m->hp, NULL, ADD);
}

static void mlp(Walk *w, int l, long rows) {
  const Model *m = w->m;
  const Layer *p = m->layer + l;
  norm(m, w->x, w->y, rows, p->norm2_w, p->norm2_b);
  gemm(w->y, m->hp, rows, m->hp, p->fc1, m->fp, w->wide, m->fp, NULL, m->gelu ? GELU : SQUARED_RELU);
  gemm(w->wide, m->fp, rows, m->fp, p->fc2, m->hp, w->x, m->hp, NULL, ADD);
}

/* The block's hidden states, normed, in y; only its keys and values where no code is to be drawn. */
static void network(Walk *w, int level, int drawn) {
  const Model *m = w->m;
  Frame *f = w->frame + level;
  long rows = up(f->count, STRIP);
  trace(w, level);
  memset(w->x, 0, rows * m->hp * sizeof(float));
  for (int i = 0; i < f->count; i++) memcpy(w->x + i * m->hp, m->input + (long)f->id[i] * m->hp, m->hp * sizeof(float));
  for (int l = 0; l < m->layers; l++) {
    int last_use = !drawn && l == m->layers - 1;
    attention(w, level, l, rows, last_use);
    if (last_use) return;
    mlp(w, l, rows);
  }
  norm(m, w->x, w->y, rows, m->final_w, m->final_b);
}

/* ---- drawing ---- */

static int falling(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? 1 : x > y ? -1 : 0;
}

/* Keep the top_k most probable codes, then the fewest of them that hold top_p of what is left; equals: lower code first. */
static void filter(Walk *w, float *p, int size) {
  const Request *r = w->r;
  int keep = r->top_k > 0 && r->top_k < size ? r->top_k : size;
  for (int c = 0; c < size; c++) { /* bits of positive floats sort as their values do */
    uint32_t bits;
    memcpy(&bits, p + c, 4);
    w->ranked[c] = (uint64_t)bits << 32 | (uint32_t)(size - c);
  }
  qsort(w->ranked, size, sizeof *w->ranked, falling);
  double total = 0, before = 0;
  for (int i = 0; i < keep; i++) total += p[size - (uint32_t)w->ranked[i]];
  for (int i = 0; i < size; i++) {
    float *q = p + (size - (uint32_t)w->ranked[i]);
    double share = *q;
    if (i >= keep || (r->top_p < 1 && before >= r->top_p * total)) *q = 0;
    before += share;
  }
}

/* Logits become weights; w->cumulative their running sums, a vector of codes at a time. Their total, or 0 if not finite. */
static double weigh(Walk *w, float *p, int size) {
  vf top = splat(-INFINITY);
  for (int c = 0; c < size; c += VL) top = larger(top, load(p + c));
  top = lane_max(top);
  float sharpness = (float)(w->r->inverse_temperature * 1.4426950408889634);
  for (int c = 0; c < size; c += VL) store(p + c, exp2_below((load(p + c) - top) * sharpness));
  if (w->r->top_k > 0 || w->r->top_p < 1) filter(w, p, size);
  double total = 0;
  for (int c = 0; c < size; c += VL) w->cumulative[c / VL] = total += lane_sum(load(p + c), 1)[0];
  return total > 0 && total < INFINITY && top[0] < INFINITY ? total : 0;
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

static void write_rows(Walk *w, int node, int low, int high) {
  const Model *m = w->m;
  int slots = m->slots;
  int32_t row[slots];
  for (int t = 0; t + 1 < slots; t++) row[t] = (int32_t)(w->path_id[node * slots + t + 1] - 1 - m->offsets[t]);
  for (int i = low; i < high; i++) {
    row[slots - 1] = w->code[i];
    if (w->r->wide) memcpy((int32_t *)w->r->out + (long)w->order[i] * slots, row, slots * sizeof(int32_t));
    else for (int t = 0; t < slots; t++) ((uint16_t *)w->r->out)[(long)w->order[i] * slots + t] = (uint16_t)row[t];
  }
}

/* Order a node's rows by their codes, equals as they stood. */
static void sort_rows(Walk *w, int low, int high, int size) {
  if (high - low <= 32) {
    for (int i = low + 1; i < high; i++) {
      int32_t code = w->code[i], row = w->order[i];
      int j = i;
      for (; j > low && w->code[j - 1] > code; j--) { w->code[j] = w->code[j - 1]; w->order[j] = w->order[j - 1]; }
      w->code[j] = code;
      w->order[j] = row;
    }
    return;
  }
  memset(w->tally, 0, (size + 1) * sizeof(int32_t));
  for (int i = low; i < high; i++) w->tally[w->code[i] + 1]++;
  for (int c = 0; c < size; c++) w->tally[c + 1] += w->tally[c];
  for (int i = low; i < high; i++) w->spare[w->tally[w->code[i]]++] = w->order[i];
  memcpy(w->order + low, w->spare, (high - low) * sizeof(int32_t));
  for (int c = 0, i = low; c < size; c++)
    for (; i < low + w->tally[c]; i++) w->code[i] = c;
}

/* Each row of a node has its code: make the children, or write the rows if this was the last slot. */
static void branch(Walk *w, int level, int node, int low, int high) {
  if (level == w->m->slots - 1) { write_rows(w, node, low, high); return; }
  if (w->r->share) sort_rows(w, low, high, w->m->sizes[level]);
  for (int i = low, next; i < high; i = next) {
    for (next = i + 1; w->r->share && next < high && w->code[next] == w->code[i];) next++;
    w->child[w->children++] = (Child){node, w->code[i], i, next};
  }
}

/* Rows whose logits are made at a time. */
static long head_rows(long padded) {
  long rows = HEAD_FLOATS / padded / STRIP * STRIP;
  return rows < STRIP ? STRIP : rows > NB ? NB : rows;
}

/* Logits of the hidden states of rows start ... end - 1. */
static void head(Walk *w, int slot, int start, int end) {
  const Model *m = w->m;
  long padded = up(m->sizes[slot], PANEL);
  gemm(w->y + start * m->hp, m->hp, up(end - start, STRIP), m->hp, m->head[slot], padded, w->logits, padded,
       w->r->bias[slot], BIAS);
}

static void draw(Walk *w, int level) {
  const Model *m = w->m;
  const Frame *f = w->frame + level;
  int size = m->sizes[level], padded = up(size, PANEL), step = head_rows(padded);
  for (int start = 0; start < f->count; start += step) {
    int end = start + step < f->count ? start + step : f->count;
    head(w, level, start, end);
    for (int i = start; i < end; i++) {
      float *p = w->logits + (long)(i - start) * padded;
      double total = weigh(w, p, size);
      if (total == 0) { w->status = NOT_FINITE; return; }
      for (int j = f->low[i]; j < f->high[i]; j++)
        w->code[j] = invert(w->cumulative, p, size, uniform(w, w->order[j], level) * total);
      branch(w, level, i, f->low[i], f->high[i]);
    }
  }
}

static void take_given(Walk *w, int level) {
  const Frame *f = w->frame + level;
  for (int i = 0; i < f->count; i++) {
    for (int j = f->low[i]; j < f->high[i]; j++) w->code[j] = given_code(w, w->order[j], level);
    branch(w, level, i, f->low[i], f->high[i]);
  }
}

/* Compute the nodes child[first] ... child[last - 1], of frame level - 1, and all that descends from them. */
static void descend(Walk *w, int level, int64_t first, int64_t last) {
  Frame *f = w->frame + level;
  int64_t blocks = (last - first + NB - 1) / NB, top = w->children;
  for (int64_t b = 0; b < blocks && w->status == OK; b++) { /* of equal size: a rest of a few nodes would cost a strip */
    int64_t at = first + (last - first) * b / blocks, end = first + (last - first) * (b + 1) / blocks;
    f->count = (int32_t)(end - at);
    for (int i = 0; at < end; i++, at++) {
      const Child *c = w->child + at;
      f->parent[i] = c->parent;
      f->id[i] = level ? (int32_t)(1 + w->m->offsets[level - 1] + c->code) : 0;
      f->low[i] = c->low;
      f->high[i] = c->high;
    }
    w->nodes += f->count;
    int drawn = level >= w->r->given_slots;
    network(w, level, drawn);
    if (drawn) draw(w, level); else take_given(w, level);
    if (level + 1 < w->m->slots) descend(w, level + 1, top, w->children);
    w->children = top;
  }
}

/* ---- memory, and what is called from outside ---- */

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes / 64 + 2) * 64); }

/* One block's activations and one node's distribution; keys: the longest path. */
static int prepare_block(Walk *w, int64_t keys) {
  const Model *m = w->m;
  int64_t largest = 0;
  for (int t = 0; t < m->slots; t++) largest = m->sizes[t] > largest ? m->sizes[t] : largest;
  int64_t padded = up(largest, PANEL), spread = up(3 * w->width, PANEL), logits = 0;
  for (int t = 0; t < m->slots; t++) {
    int64_t floats = head_rows(up(m->sizes[t], PANEL)) * up(m->sizes[t], PANEL);
    logits = floats > logits ? floats : logits;
  }
  w->x = aligned(NB * m->hp * 4);
  w->y = aligned((NB + STRIP) * (w->width > m->hp ? w->width : m->hp) * 4);
  w->wide = aligned(NB * (spread > m->fp ? spread : m->fp) * 4);
  w->logits = aligned(logits * 4);
  w->keys = aligned(keys * sizeof *w->keys);
  w->score = aligned(keys * sizeof *w->score);
  w->cumulative = aligned(padded / VL * 8);
  w->ranked = aligned(padded * 8);
  w->tally = aligned((largest + 1) * 4);
  return w->x && w->y && w->wide && w->logits && w->keys && w->score && w->cumulative && w->ranked && w->tally;
}

/* The rows' arrays and a frame a level. */
static int prepare_tree(Walk *w) {
  int64_t rows = w->r->rows, slots = w->m->slots, kv = (int64_t)w->m->layers * NB * 2 * w->width;
  w->state = aligned(rows * 8);
  w->order = aligned(rows * 4);
  w->spare = aligned(rows * 4);
  w->code = aligned(rows * 4);
  w->child = aligned((rows + (slots + 1) * NB) * sizeof(Child));
  w->path = aligned(NB * slots * 4);
  w->path_id = aligned(NB * slots * 4);
  w->frame = aligned(slots * sizeof(Frame));
  w->kv = aligned(slots * kv * 4);
  if (w->frame) for (int t = 0; t < slots; t++) w->frame[t].kv = w->kv + t * kv;
  return w->state && w->order && w->spare && w->code && w->child && w->path && w->path_id && w->frame && w->kv;
}

static void release(Walk *w) {
  void *all[] = {w->state, w->order, w->spare, w->code, w->child, w->frame, w->kv, w->tally, w->path, w->path_id,
                 w->x, w->y, w->wide, w->logits, w->keys, w->score, w->cumulative, w->ranked};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

int lanes(void) { return VL; }
int block(void) { return NB; }

/* Decode r->rows rows into r->out; the number of nodes computed goes to *nodes. 0, or a status. */
int decode_rows(const Model *m, const Request *r, int64_t *nodes) {
  Walk w = {.m = m, .r = r, .width = (long)m->groups * m->vectors * VL};
  int ready = prepare_block(&w, m->slots) && prepare_tree(&w);
  if (ready) {
    uint64_t start = mix(r->seed);
    for (int64_t i = 0; i < r->rows; i++) {
      w.state[i] = mix(start ^ (r->first_row + (uint64_t)i) * GOLDEN);
      w.order[i] = (int32_t)i;
    }
    w.child[w.children++] = (Child){0, 0, 0, (int32_t)r->rows};
    descend(&w, 0, 0, 1);
    *nodes = w.nodes;
  }
  release(&w);
  return ready ? w.status : OUT_OF_MEMORY;
}

/* Memory for `decode_step`, or NULL; to be closed. */
void *open_steps(const Model *m, int64_t capacity) {
  Walk *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  w->m = m;
  w->width = (long)m->groups * m->vectors * VL;
  if (prepare_block(w, capacity)) return w;
  release(w);
  free(w);
  return NULL;
}

void close_steps(void *steps) {
  release(steps);
  free(steps);
}

/* One slot of at most NB documents: their keys and values join their caches, their codes are drawn. 0, or a status. */
int decode_step(void *steps, const Request *r, const Step *s) {
  Walk *w = steps;
  const Model *m = w->m;
  w->r = r;
  long rows = up(s->count, STRIP), width = w->width, columns = up(3 * width, PANEL);
  memset(w->x, 0, rows * m->hp * sizeof(float));
  for (int i = 0; i < s->count; i++) {
    const float *input = m->input + (long)s->id[i] * m->hp, *place = m->place + (long)s->place[i] * m->hp;
    for (int j = 0; j < m->hp; j++) w->x[i * m->hp + j] = input[j] + m->position[s->slot * m->hp + j] + place[j];
  }
  for (int l = 0; l < m->layers; l++) {
    norm(m, w->x, w->y, rows, m->layer[l].norm1_w, m->layer[l].norm1_b);
    gemm(w->y, m->hp, rows, m->hp, m->layer[l].qkv, columns, w->wide, columns, NULL, STORE);
    for (int i = 0; i < s->count; i++) {
      float *cache = s->cache + ((long)s->lane[i] * m->layers + l) * s->capacity * 2 * width;
      memcpy(cache + (long)s->position[i] * 2 * width, w->wide + i * columns + width, 2 * width * sizeof(float));
      for (int t = 0; t <= s->position[i]; t++) w->keys[t] = cache + (long)t * 2 * width;
      attend(m, w->wide + i * columns, w->keys, s->position[i] + 1, w->score, w->y + i * width);
    }
    memset(w->y + s->count * width, 0, (rows - s->count) * width * sizeof(float));
    gemm(w->y, width, rows, width, m->layer[l].proj, m->hp, w->x, m->hp, NULL, ADD);
    mlp(w, l, rows);
  }
  if (!s->drawn) return OK;
  norm(m, w->x, w->y, rows, m->final_w, m->final_b);
  int size = m->sizes[s->slot], padded = up(size, PANEL), step = head_rows(padded);
  for (int i = 0; i < s->count; i++) {
    if (i % step == 0) head(w, s->slot, i, i + step < s->count ? i + step : (int)s->count);
    float *p = w->logits + (long)(i % step) * padded;
    if (s->endless[i]) p[size - 1] = -INFINITY;
    double total = weigh(w, p, size);
    if (total == 0) return NOT_FINITE;
    s->code[i] = invert(w->cumulative, p, size, s->uniform[i] * total);
  }
  return OK;
}
