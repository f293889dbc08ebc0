// The lanes on which handlers block, one for each kind of waiting.
#pragma once

#include <array>

#include "base/lane.h"

namespace crispd {

// A lane that is full refuses, so one kind of slow work cannot starve another. What no caller waits
// for (deletions, retried detaches) has lanes of its own in the services.
struct Lanes {
  // Pods, how they begin and how they end: a network plugin may hang. More threads than plugins may
  // hold (network/turns.h), and one lane each, so that pods that wait for plugins starve no others.
  base::Lane sandbox{"sandbox", 128, 1024};
  base::Lane sandbox_end{"sandbox-end", 128, 1024};
  // Containers, images' removal and whatever asks the runtime or the disk.
  base::Lane runtime{"runtime", 64, 4096};
  // ExecSync, mostly asleep in poll.
  base::Lane exec{"exec", 256, 4096};
  // PullImage: callers that wait, many of them for the same pull. How many pulls run is for the
  // image service to say.
  base::Lane pull{"pull", 256, 1024};

  // Exec, Attach, PortForward: none is long, but the first of them starts a program.
  base::Lane stream{"stream", 16, 1024};

  std::array<const base::Lane*, 6> All() const {
    return {&sandbox, &sandbox_end, &runtime, &exec, &pull, &stream};
  }
};

}  // namespace crispd
