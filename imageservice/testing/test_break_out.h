// For tests: what a process that was taken over would try against the host.
#pragma once

#include <string>

namespace imageservice::testing {

// What BreakOut aims at.
struct Target {
  std::string folder;  // Holds the file "file" and the listening unix socket "socket".
  std::string store;   // Where the image store is.
  int process = 0;     // A process to kill and trace: the daemon.
};

// The target that the environment names: OUTSIDE, STORE and DAEMON.
Target TargetOfEnvironment();

// Tries every way out it knows and returns those that were not refused, one per line.
std::string BreakOut(const Target& target);

}  // namespace imageservice::testing
