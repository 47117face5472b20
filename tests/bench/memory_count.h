#ifndef MEMORY_COUNT_H
#define MEMORY_COUNT_H

#include <ngtcp2/ngtcp2.h>

/* What is allocated through one ngtcp2_mem, in bytes as asked for */
struct memory_count {
  uint64_t current, peak;
};

/* |count| has to outlive everything that is allocated. */
ngtcp2_mem memory_count_mem(struct memory_count *count);

#endif /* MEMORY_COUNT_H */
