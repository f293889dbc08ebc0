// The process between a layer's archive and its parser. It knows what passed through it and when
// the parser is dead, so it can tell the daemon what a folder holds whoever lies upstream.
#pragma once

#include <cstdint>
#include <string>

#include "imageservice/worker/artifact.h"

namespace imageservice::worker {

struct VerifierTask {
  int staging = -1;       // The open staging directory.
  std::string directory;  // The layer's folder in it.
  ArtifactFile file;      // What to make of the bytes, if it has a name; else they are an archive.
  int archive = -1;       // A pipe with the archive, from the network process.
  int result = -1;        // A pipe for one LayerMessage to the network process.
  int verdicts = -1;      // The socket for verdicts.
  uint64_t max_bytes = 0;
  uint64_t max_entries = 0;
};

// Starts the layer's parser, confines the calling process, hashes the archive on its way to the
// parser, waits until that is dead, sends the verdict to the daemon, then tells the network process
// and ends. A failure goes to the network process alone. The process has one thread and has forgone
// new privileges; killing it kills the parser.
[[noreturn]] void RunVerifier(const VerifierTask& task);

}  // namespace imageservice::worker
