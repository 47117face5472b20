// What the fuzz targets share.
#pragma once

#include <cstdio>
#include <cstdlib>

/// Ends the process when `condition` is false, with a line that says so; not an assert(), which
/// NDEBUG would take away.
#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);          \
      std::abort();                                                                                \
    }                                                                                              \
  } while (false)
