// SPDX-License-Identifier: Apache-2.0
// The program `posthouse`.
#include "cli/main.hpp"

int main(int argc, char** argv) { return posthouse::cli::main(argc, argv); }
