/* An allocator that counts: see memory_count.h. */

#include "memory_count.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Before each allocation: its size.  What follows stays aligned. */
#define HEADER alignof(max_align_t)

static void add(struct memory_count *count, uint64_t size) {
  count->current += size;
  if (count->peak < count->current) {
    count->peak = count->current;
  }
}

static void *count_malloc(size_t size, void *user_data) {
  uint8_t *block = malloc(HEADER + size);

  if (!block) {
    return NULL;
  }
  memcpy(block, &size, sizeof(size));
  add(user_data, size);
  return block + HEADER;
}

static size_t size_of(const void *ptr) {
  size_t size;

  memcpy(&size, (const uint8_t *)ptr - HEADER, sizeof(size));
  return size;
}

static void count_free(void *ptr, void *user_data) {
  struct memory_count *count = user_data;

  if (ptr) {
    count->current -= size_of(ptr);
    free((uint8_t *)ptr - HEADER);
  }
}

static void *count_calloc(size_t nmemb, size_t size, void *user_data) {
  void *ptr = count_malloc(nmemb * size, user_data);

  return ptr ? memset(ptr, 0, nmemb * size) : NULL;
}

static void *count_realloc(void *ptr, size_t size, void *user_data) {
  void *result = count_malloc(size, user_data);

  if (result && ptr) {
    memcpy(result, ptr, size < size_of(ptr) ? size : size_of(ptr));
    count_free(ptr, user_data);
  }
  return result;
}

ngtcp2_mem memory_count_mem(struct memory_count *count) {
  return (ngtcp2_mem){
    .user_data = count,
    .malloc = count_malloc,
    .free = count_free,
    .calloc = count_calloc,
    .realloc = count_realloc,
  };
}
