// What the daemon believes about a layer's content: the word of the layer's verifier, a process
// that hashed the archive and outlived its parser, and that nobody on the network can talk to.
//
// A verdict is one packet on kVerdictSocket: the text "<directory> <diff ID>" and one descriptor, a
// memfd that is sealed against every change and holds what the parser said (LayerMessage).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// What a parser may say: as many deferred operations as there may be, each byte of a path escaped.
inline constexpr size_t kMaxUnpackedBytes = 32 << 20;

struct Verdict {
  std::string directory;  // Of the layer in the staging directory; IsLayerDirectory.
  std::string diff_id;    // Of the archive in it, or the ArtifactDiffId of the file in it: 64
                          // hexadecimal digits.
};

// The text of a packet; INVALID_ARGUMENT for anything but two clean words.
std::string EncodeVerdict(const Verdict& verdict);
absl::StatusOr<Verdict> ParseVerdict(std::string_view text);

// An empty memfd for the parser's words.
absl::StatusOr<base::UniqueFd> MakeUnpackedFile();

// Seals `unpacked`, which MakeUnpackedFile made, and sends the verdict; blocks while too many wait
// to be read. UNAVAILABLE when the daemon is gone.
absl::Status SendVerdict(int socket, const Verdict& verdict, int unpacked);

// The daemon's end of one pull. Verdicts that nobody asks for (of a transfer that was tried again
// elsewhere) are kept within a limit. One thread at a time.
class VerdictBox {
 public:
  // Makes the pair; the other end, for kVerdictSocket, is put into `theirs`.
  static absl::StatusOr<VerdictBox> Open(base::UniqueFd* theirs);

  // To poll for POLLIN, upon which Receive is to be called; -1 once no verifier can come any more.
  int fd() const { return socket_.get(); }

  // Takes in what has arrived. INVALID_ARGUMENT for a verdict that is none.
  absl::Status Receive();

  // What the parser made of `directory`, once; Receive is called first. INVALID_ARGUMENT when there
  // is no verdict on it, or one on another content than `diff_id`, or what the parser said is
  // nonsense.
  absl::StatusOr<UnpackedLayer> Take(std::string_view directory, std::string_view diff_id);

 private:
  struct Entry {
    Verdict verdict;
    base::UniqueFd unpacked;
    size_t bytes = 0;
  };

  explicit VerdictBox(base::UniqueFd socket) : socket_(std::move(socket)) {}
  absl::Status Keep(std::string_view text, base::UniqueFd unpacked);

  base::UniqueFd socket_;
  std::deque<Entry> entries_;  // The oldest first.
  size_t bytes_ = 0;           // Of all entries' files.
};

}  // namespace imageservice::worker
