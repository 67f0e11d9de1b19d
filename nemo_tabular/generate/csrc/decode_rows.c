/* A model's packed weights, a seed and row numbers come in; codes of rows leave. Compiled by kernel.py when first used.

   The rows of a tile form a tree: a node is a distinct prefix, computed once for all rows that share it. The tree is
   walked depth first in blocks of at most NB nodes, so a block's activations and all its ancestors' keys and values stay
   in the second-level cache, and memory does not grow with the rows.

   A node's numbers do not depend on its place in a block (network.h), so rows do not depend on how they are split into
   tiles. */

#include "draw.h"

#ifndef CACHE_FLOATS
#define CACHE_FLOATS (1 << 26) /* keys and values of all levels: 256 MB; long rows and wide models get smaller blocks */
#endif

/* ---- the tree of prefixes ---- */

typedef struct { int32_t parent, code, low, high; } Child; /* rows order[low] ... order[high - 1] */

typedef struct {      /* the block in hand at one level; the nodes of deeper blocks descend from it */
  int32_t count, parent[NB], id[NB], low[NB], high[NB];
  float *kv;          /* (layers, limit, 2W) */
} Frame;

typedef struct {
  Scratch s;
  Frame *frame;
  float *kv;          /* (slots, layers, limit, 2W), cut into the frames */
  Child *child;
  int64_t children, nodes;
  uint64_t *state;    /* of each row's uniform numbers */
  int32_t *order, *spare, *code, *tally;
  int32_t *path, *path_id; /* (NB, slots): each node's ancestors in their frames, and their ids */
  int32_t limit, status; /* limit: nodes of a block */
} Walk;

static inline double uniform(const Walk *w, int32_t row, int slot) {
  return (double)(mix(w->state[row] + (uint64_t)slot * GOLDEN) >> 11) * 0x1p-53;
}

static inline int32_t given_code(const Walk *w, int32_t row, int slot) {
  const Request *r = w->s.r;
  return r->given[(int64_t)((r->first_row + (uint64_t)row) % (uint64_t)r->given_rows) * r->given_slots + slot];
}

static void trace(Walk *w, int level) {
  int slots = w->s.m->slots;
  for (int i = 0; i < w->frame[level].count; i++)
    for (int t = level, at = i; t >= 0; at = w->frame[t--].parent[at]) {
      w->path[i * slots + t] = at;
      w->path_id[i * slots + t] = w->frame[t].id[at];
    }
}

/* Queries, keys and values of a layer: by id from the table, or computed; keys and values join the frame. */
static void attention(Walk *w, int level, int l, long rows, int last_use) {
  const Model *m = w->s.m;
  const Layer *p = m->layer + l;
  Frame *f = w->frame + level;
  long width = w->s.width, columns = up(3 * width, PANEL);
  int table = l == 0 && m->first, slots = m->slots;
  if (!table) {
    norm(m, w->s.x, w->s.y, rows, p->norm1_w, p->norm1_b);
    gemm(w->s.y, m->hp, rows, m->hp, p->qkv, columns, w->s.wide, columns, NULL, STORE);
    for (int i = 0; i < f->count; i++)
      memcpy(f->kv + ((long)l * w->limit + i) * 2 * width, w->s.wide + i * columns + width, 2 * width * sizeof(float));
  }
  if (last_use) return;
  for (int i = 0; i < f->count; i++) {
    for (int t = 0; t <= level; t++)
      w->s.keys[t] = table ? m->first + (long)w->path_id[i * slots + t] * 3 * width + width
                         : w->frame[t].kv + ((long)l * w->limit + w->path[i * slots + t]) * 2 * width;
    const float *q = table ? m->first + (long)f->id[i] * 3 * width : w->s.wide + i * columns;
    attend(m, q, w->s.keys, level + 1, w->s.score, w->s.y + i * width);
  }
  memset(w->s.y + f->count * width, 0, (rows - f->count) * width * sizeof(float));
  gemm(w->s.y, width, rows, width, p->proj, m->hp, w->s.x, m->hp, NULL, ADD);
}

/* The block's hidden states, normed, in y; only its keys and values where no code is to be drawn. */
static void network(Walk *w, int level, int drawn) {
  const Model *m = w->s.m;
  Frame *f = w->frame + level;
  long rows = up(f->count, STRIP);
  trace(w, level);
  memset(w->s.x, 0, rows * m->hp * sizeof(float));
  for (int i = 0; i < f->count; i++) memcpy(w->s.x + i * m->hp, m->input + (long)f->id[i] * m->hp, m->hp * sizeof(float));
  for (int l = 0; l < m->layers; l++) {
    int last_use = !drawn && l == m->layers - 1;
    attention(w, level, l, rows, last_use);
    if (last_use) return;
    mlp(&w->s, l, rows);
  }
  norm(m, w->s.x, w->s.y, rows, m->final_w, m->final_b);
}

static void write_rows(Walk *w, int node, int low, int high) {
  const Model *m = w->s.m;
  int slots = m->slots;
  int32_t row[slots];
  for (int t = 0; t + 1 < slots; t++) row[t] = (int32_t)(w->path_id[node * slots + t + 1] - 1 - m->offsets[t]);
  for (int i = low; i < high; i++) {
    row[slots - 1] = w->code[i];
    if (w->s.r->wide) memcpy((int32_t *)w->s.r->out + (long)w->order[i] * slots, row, slots * sizeof(int32_t));
    else for (int t = 0; t < slots; t++) ((uint16_t *)w->s.r->out)[(long)w->order[i] * slots + t] = (uint16_t)row[t];
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
  if (level == w->s.m->slots - 1) { write_rows(w, node, low, high); return; }
  if (w->s.r->share) sort_rows(w, low, high, w->s.m->sizes[level]);
  for (int i = low, next; i < high; i = next) {
    for (next = i + 1; w->s.r->share && next < high && w->code[next] == w->code[i];) next++;
    w->child[w->children++] = (Child){node, w->code[i], i, next};
  }
}

static void draw(Walk *w, int level) {
  const Model *m = w->s.m;
  const Frame *f = w->frame + level;
  int size = m->sizes[level], padded = up(size, PANEL), step = head_rows(padded);
  for (int start = 0; start < f->count; start += step) {
    int end = start + step < f->count ? start + step : f->count;
    head(&w->s, level, start, end);
    for (int i = start; i < end; i++) {
      float *p = w->s.logits + (long)(i - start) * padded;
      double total = weigh(&w->s, p, size);
      if (total == 0) { w->status = NOT_FINITE; return; }
      for (int j = f->low[i]; j < f->high[i]; j++)
        w->code[j] = invert(w->s.cumulative, p, size, uniform(w, w->order[j], level) * total);
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
  int64_t blocks = (last - first + w->limit - 1) / w->limit, top = w->children;
  for (int64_t b = 0; b < blocks && w->status == OK; b++) { /* of equal size: a rest of a few nodes would cost a strip */
    int64_t at = first + (last - first) * b / blocks, end = first + (last - first) * (b + 1) / blocks;
    f->count = (int32_t)(end - at);
    for (int i = 0; at < end; i++, at++) {
      const Child *c = w->child + at;
      f->parent[i] = c->parent;
      f->id[i] = level ? (int32_t)(1 + w->s.m->offsets[level - 1] + c->code) : 0;
      f->low[i] = c->low;
      f->high[i] = c->high;
    }
    w->nodes += f->count;
    int drawn = level >= w->s.r->given_slots;
    network(w, level, drawn);
    if (drawn) draw(w, level); else take_given(w, level);
    if (level + 1 < w->s.m->slots) descend(w, level + 1, top, w->children);
    w->children = top;
  }
}

/* ---- memory, and what is called from outside ---- */

/* The rows' arrays and a frame a level. */
static int prepare_tree(Walk *w) {
  int64_t rows = w->s.r->rows, slots = w->s.m->slots, node = (int64_t)w->s.m->layers * 2 * w->s.width, tally = 1;
  int64_t fit = CACHE_FLOATS / (slots * node) / STRIP * STRIP;
  w->limit = (int32_t)(fit < STRIP ? STRIP : fit > NB ? NB : fit);
  for (int t = 0; t < slots; t++) tally = w->s.m->sizes[t] >= tally ? w->s.m->sizes[t] + 1 : tally;
  w->state = aligned(rows * 8);
  w->order = aligned(rows * 4);
  w->spare = aligned(rows * 4);
  w->code = aligned(rows * 4);
  w->tally = aligned(tally * 4);
  w->child = aligned((rows + (slots + 1) * NB) * sizeof(Child));
  w->path = aligned(NB * slots * 4);
  w->path_id = aligned(NB * slots * 4);
  w->frame = aligned(slots * sizeof(Frame));
  w->kv = aligned(slots * node * w->limit * 4);
  if (w->frame) for (int t = 0; t < slots; t++) w->frame[t].kv = w->kv + t * node * w->limit;
  return w->state && w->order && w->spare && w->code && w->tally && w->child && w->path && w->path_id && w->frame && w->kv;
}

static void release(Walk *w) {
  void *all[] = {w->state, w->order, w->spare, w->code, w->tally, w->child, w->frame, w->kv, w->path, w->path_id};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  free_scratch(&w->s);
}

int lanes(void) { return VL; }
int block(void) { return NB; }

/* Decode r->rows rows into r->out; the number of nodes computed goes to *nodes. 0, or a status. */
int decode_rows(const Model *m, const Request *r, int64_t *nodes) {
  Walk w = {0};
  int ready = take_scratch(&w.s, m, m->slots);
  w.s.r = r;
  ready = ready && prepare_tree(&w);
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
