// The command line of `crisp image`.
#pragma once

#include <CLI/CLI.hpp>

#include "daemon/image_command.h"

namespace crispd {

// Gives the subcommand `image` its own subcommands; parsing fills `command`, which must outlive it.
// Only for who typed it: all these options are memory that a serving daemon would keep.
void AddImageOptions(CLI::App* image, ImageCommand* command);

}  // namespace crispd
