// The process that reads one layer's archive: it sees a pipe and its own folder and nothing else,
// so that no archive can touch another layer.
#pragma once

#include <cstdint>
#include <string>

namespace imageservice::worker {

// What a parser gets.
struct ParserTask {
  int staging = -1;       // The open staging directory; closed before the first byte is read.
  std::string directory;  // The folder to make in it.
  std::string file_name;  // Not empty: what comes is this one file (artifact_file.h), no archive.
  int archive = -1;       // A pipe with the archive.
  int words = -1;         // A pipe for one LayerMessage.
  uint64_t max_entries = 0;
};

// Confines the calling process, which has one thread and forgone new privileges, unpacks, says what
// came of it and ends: with 0 after UnpackedLayer, with 1 after Failed.
[[noreturn]] void RunParser(const ParserTask& task);

}  // namespace imageservice::worker
