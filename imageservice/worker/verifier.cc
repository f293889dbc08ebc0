#include "imageservice/worker/verifier.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/parser_process.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/sandbox.h"
#include "imageservice/worker/stage_timer.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {
namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr size_t kBufferBytes = 256 << 10;
constexpr uint64_t kMemory = uint64_t{128} << 20;
constexpr size_t kMaxErrorBytes = 64 << 10;  // What a parser that fails may say.

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "pipe");
  }
  return Pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

class Verifier {
 public:
  explicit Verifier(const VerifierTask& task)
      : task_(task),
        hasher_(task.file.name.empty() ? "sha256:" : task.file.digest),
        buffer_(kBufferBytes) {}

  // What to tell the network process: a LayerMessage.
  absl::StatusOr<std::string> Run() {
    RETURN_IF_ERROR(StartParser());
    RETURN_IF_ERROR(Confine());
    RETURN_IF_ERROR(PassArchive());
    archive_.Reset();
    RETURN_IF_ERROR(CollectWords());
    ASSIGN_OR_RETURN(const int exit_code, AwaitParsersDeath());
    timer_.Charge(&unpack_);
    if (exit_code != 0 || has_given_up_) {
      return ParsersError(exit_code);
    }
    const std::string digest = hasher_.Finish();
    std::string diff_id = ArtifactDiffId({task_.file.name, digest});
    if (task_.file.name.empty()) {
      ASSIGN_OR_RETURN(diff_id, Sha256Part(digest));
    }
    RETURN_IF_ERROR(SendVerdict(task_.verdicts, {task_.directory, diff_id}, words_.get()));
    const Stages stages = {.digest = digest_ / 1000, .unpack = unpack_ / 1000};
    return Encode(LayerMessage(Verified{diff_id, stages}));
  }

 private:
  absl::Status StartParser() {
    ASSIGN_OR_RETURN(Pipe archive, MakePipe());
    ASSIGN_OR_RETURN(Pipe said, MakePipe());
    // Fewer switches between two processes; refused beyond the user's limit, and only slower then.
    fcntl(archive.write.get(), F_SETPIPE_SZ, kPipeBytes);
    const pid_t verifier = getpid();
    parser_ = fork();
    if (parser_ < 0) {
      return base::ErrnoStatus(errno, "fork");
    }
    if (parser_ == 0) {
      if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != verifier) {
        _exit(1);
      }
      for (const int fd :
           {task_.archive, task_.result, task_.verdicts, archive.write.get(), said.read.get()}) {
        close(fd);
      }
      RunParser({.staging = task_.staging,
                 .directory = task_.directory,
                 .file_name = task_.file.name,
                 .archive = archive.read.get(),
                 .words = said.write.get(),
                 .max_entries = task_.max_entries});
    }
    archive_ = std::move(archive.write);
    said_ = std::move(said.read);
    return absl::OkStatus();
  }

  // The staging directory stays open for its lock only.
  absl::Status Confine() {
    ASSIGN_OR_RETURN(words_, MakeUnpackedFile());
    RETURN_IF_ERROR(ConfineFiles({}, {}, Signals::kChildren).status());
    RETURN_IF_ERROR(DropCapabilities(Role::kVerifier));
    RETURN_IF_ERROR(LimitMemory(kMemory));
    return FilterSystemCalls(Role::kVerifier, parser_);
  }

  // The bytes are copied and not shared with the pipe they came from (tee(2), splice(2)): what the
  // parser gets is what was hashed, even if the sender still holds the pages.
  absl::Status PassArchive() {
    uint64_t total = 0;
    while (!has_given_up_) {
      const ssize_t n = read(task_.archive, buffer_.data(), buffer_.size());
      timer_.Charge(&wait_);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0) {
        return base::ErrnoStatus(errno, "read the archive");
      }
      if (n == 0) {
        break;
      }
      const std::string_view bytes(buffer_.data(), static_cast<size_t>(n));
      total += bytes.size();
      if (total > task_.max_bytes) {
        return absl::ResourceExhaustedError(
            base::StrCat("the layer is larger than ", task_.max_bytes, " bytes"));
      }
      hasher_.Update(bytes);
      timer_.Charge(&digest_);
      RETURN_IF_ERROR(Feed(bytes));
      timer_.Charge(&unpack_);
    }
    return absl::OkStatus();
  }

  absl::Status Feed(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(archive_.get(), bytes.data(), bytes.size());
      if (n >= 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno == EPIPE) {
        has_given_up_ = true;  // It will say why.
        return absl::OkStatus();
      } else if (errno != EINTR) {
        return base::ErrnoStatus(errno, "write to the parser");
      }
    }
    return absl::OkStatus();
  }

  // Everything the parser says, unread.
  absl::Status CollectWords() {
    for (;;) {
      const ssize_t n = read(said_.get(), buffer_.data(), buffer_.size());
      if (n == 0) {
        return absl::OkStatus();
      }
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0) {
        return base::ErrnoStatus(errno, "read from the parser");
      }
      words_bytes_ += static_cast<size_t>(n);
      if (words_bytes_ > kMaxUnpackedBytes) {
        return absl::ResourceExhaustedError("the archive's parser says too much");
      }
      RETURN_IF_ERROR(base::WriteAll(words_.get(), {buffer_.data(), static_cast<size_t>(n)},
                                     "the parser's words"));
    }
  }

  // The parser closes its pipe by dying, unless it is not what it should be. Its exit code; -1 when
  // a signal ended it.
  absl::StatusOr<int> AwaitParsersDeath() {
    kill(parser_, SIGKILL);
    siginfo_t end = {};
    while (waitid(P_PID, static_cast<id_t>(parser_), &end, WEXITED) != 0) {
      if (errno != EINTR) {
        return base::ErrnoStatus(errno, "wait for the parser");
      }
    }
    return end.si_code == CLD_EXITED ? end.si_status : -1;
  }

  absl::StatusOr<std::string> ParsersError(int exit_code) {
    std::string error(words_bytes_, '\0');
    if (exit_code != 1 || error.empty() || error.size() > kMaxErrorBytes ||
        pread(words_.get(), error.data(), error.size(), 0) != static_cast<ssize_t>(error.size())) {
      return absl::InternalError("the archive's parser died");
    }
    return error;
  }

  const VerifierTask& task_;
  Hasher hasher_;
  std::vector<char> buffer_;
  pid_t parser_ = -1;
  base::UniqueFd archive_;  // To the parser.
  base::UniqueFd said_;     // From the parser.
  base::UniqueFd words_;    // A file of what it said.
  size_t words_bytes_ = 0;
  bool has_given_up_ = false;  // The parser reads no more.
  StageTimer timer_;
  uint64_t wait_ = 0;  // In nanoseconds, as are the others.
  uint64_t digest_ = 0;
  uint64_t unpack_ = 0;
};

}  // namespace

void RunVerifier(const VerifierTask& task) {
  const absl::StatusOr<std::string> told = Verifier(task).Run();
  const std::string json = told.ok() ? *told : Encode(LayerMessage(Failed{told.status()}));
  _exit(base::WriteAll(task.result, json, "the verifier's words").ok() ? 0 : 1);
}

}  // namespace imageservice::worker
