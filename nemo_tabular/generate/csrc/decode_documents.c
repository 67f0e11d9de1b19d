/* The last codes of documents side by side, each at a position of its own and with a cache of its own, come in; their next
   codes leave. Compiled by kernel.py when first used; documents.py says whose turn it is. */

#include "draw.h"

typedef struct {          /* one slot of `count` documents, each at a position of its own; arrays (count) */
  int64_t count, capacity;  /* positions that a cache holds */
  int32_t slot, drawn;      /* drawn: whether any code is */
  const int32_t *lane, *id, *place, *position; /* cache; input; row of the window; positions before this one */
  const uint8_t *endless;   /* whether the document may not end here */
  const int32_t *least;     /* codes below it are not drawn */
  const double *uniform;
  float *cache;             /* (lanes, layers, capacity, 2W) */
  int32_t *code;
} Step;

/* Memory for `decode_step`, or NULL; to be closed. */
void *open_steps(const Model *m, int64_t capacity) {
  Scratch *s = malloc(sizeof *s);
  if (s && !take_scratch(s, m, capacity)) {
    free_scratch(s);
    free(s);
    return NULL;
  }
  return s;
}

void close_steps(void *scratch) {
  free_scratch(scratch);
  free(scratch);
}

/* One slot of at most NB documents: their keys and values join their caches, their codes are drawn. 0, or a status. */
int decode_step(void *scratch, const Request *r, const Step *step) {
  Scratch *s = scratch;
  const Model *m = s->m;
  s->r = r;
  long rows = up(step->count, STRIP), width = s->width, columns = up(3 * width, PANEL);
  memset(s->x, 0, rows * m->hp * sizeof(float));
  for (int i = 0; i < step->count; i++) {
    const float *input = m->input + (long)step->id[i] * m->hp, *place = m->place + (long)step->place[i] * m->hp;
    for (int j = 0; j < m->hp; j++) s->x[i * m->hp + j] = input[j] + m->position[step->slot * m->hp + j] + place[j];
  }
  for (int l = 0; l < m->layers; l++) {
    norm(m, s->x, s->y, rows, m->layer[l].norm1_w, m->layer[l].norm1_b);
    gemm(s->y, m->hp, rows, m->hp, m->layer[l].qkv, columns, s->wide, columns, NULL, STORE);
    for (int i = 0; i < step->count; i++) {
      float *cache = step->cache + ((long)step->lane[i] * m->layers + l) * step->capacity * 2 * width;
      memcpy(cache + (long)step->position[i] * 2 * width, s->wide + i * columns + width, 2 * width * sizeof(float));
      for (int t = 0; t <= step->position[i]; t++) s->keys[t] = cache + (long)t * 2 * width;
      attend(m, s->wide + i * columns, s->keys, step->position[i] + 1, s->score, s->y + i * width);
    }
    memset(s->y + step->count * width, 0, (rows - step->count) * width * sizeof(float));
    gemm(s->y, width, rows, width, m->layer[l].proj, m->hp, s->x, m->hp, NULL, ADD);
    mlp(s, l, rows);
  }
  if (!step->drawn) return OK;
  norm(m, s->x, s->y, rows, m->final_w, m->final_b);
  int size = m->sizes[step->slot], padded = up(size, PANEL), some = head_rows(padded);
  for (int i = 0; i < step->count; i++) {
    if (i % some == 0) head(s, step->slot, i, i + some < step->count ? i + some : (int)step->count);
    float *p = s->logits + (long)(i % some) * padded;
    if (step->endless[i]) p[size - 1] = -INFINITY;
    for (int c = 0; c < step->least[i]; c++) p[c] = -INFINITY;
    double total = weigh(s, p, size);
    if (total == 0) return NOT_FINITE;
    step->code[i] = invert(s->cumulative, p, size, step->uniform[i] * total);
  }
  return OK;
}
