// One process per layer for the tar parser: it sees a pipe and its own folder and nothing else, so
// that no archive can touch another layer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// A running parser, from outside.
struct ParserProcess {
  base::UniqueFd input;   // Write the archive here and close it.
  base::UniqueFd result;  // One frame, then EOF when the process has ended.
};

// The process that forks parsers. It is forked itself before the worker has threads, because only a
// process with one thread may fork and go on.
class ParserForker {
 public:
  // Forks it. It and its children hold `staging` open, write nowhere else, have the capabilities of
  // Role:: kForker, and die with the calling thread. The caller must be single-threaded and have
  // forgone new privileges.
  static absl::StatusOr<std::unique_ptr<ParserForker>> Start(int staging, uint64_t max_entries);

  // Starts a parser that unpacks into the new folder `directory` of the staging directory.
  // Thread-safe.
  absl::StatusOr<ParserProcess> StartParser(const std::string& directory);

 private:
  explicit ParserForker(base::UniqueFd socket) : socket_(std::move(socket)) {}

  const base::UniqueFd socket_;
};

// Waits for the end of the parser. Only `bytes`, `inodes` and `deferred` of the answer are
// meaningful. Its error is the parser's own; INTERNAL when it died without a word.
absl::StatusOr<LayerDone> ReadParserResult(ParserProcess* parser);

}  // namespace imageservice::worker
