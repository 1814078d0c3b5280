// SPDX-License-Identifier: Apache-2.0
// The program `posthouse`: reads the command line, runs one command, returns the exit status.
//
// Thread safety: call once.
#pragma once

namespace posthouse::cli {

int main(int argc, char** argv);

}  // namespace posthouse::cli
