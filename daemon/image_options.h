// The command line of `crisp image`.
#pragma once

#include <CLI/CLI.hpp>

#include "daemon/image_command.h"

namespace crispd {

// Adds the subcommand `image` with its own subcommands to `app`; parsing fills `command`, which
// must outlive `app`. Returns it.
CLI::App* AddImageOptions(CLI::App* app, ImageCommand* command);

}  // namespace crispd
