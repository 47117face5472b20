// main() for test programs in C++.

#include "harness.h"

int main(int argc, char **argv) { return harness::Main(argc, argv); }
