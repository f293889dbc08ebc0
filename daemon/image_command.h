// `crisp image`: images of the running daemon, from the command line.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace crispd {

// What was typed after `crisp image`.
struct ImageCommand {
  enum class Verb { kList, kPull, kRemove, kLoad, kSave };
  Verb verb = Verb::kList;
  std::string socket;
  double timeout_seconds = 0;  // Of the whole command; 0: none.
  bool quiet = false;          // Ids only, no progress.

  // list
  bool digests = false;
  bool json = false;

  std::vector<std::string> names;  // pull, remove, save

  // pull
  std::string creds;  // "user:password".
  bool creds_stdin = false;
  std::string authfile;

  // load
  std::string file;
  std::string name;

  // save
  std::string output;
  std::string format = "oci-archive";
  std::string compression = "none";
  bool force = false;
};

// Runs it: results on standard output, progress and errors on standard error, one line for each
// thing that failed. The exit status: 0 when all went well, 1, 2 for what can never work, 130 after
// an interrupt.
int RunImageCommand(const ImageCommand& command);

}  // namespace crispd
