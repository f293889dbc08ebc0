// A pull worker without a registry, for tests. The tag of the reference says what to do:
// "<layers>.<behaviour>", such as "abc.ok". Each letter (a to f) is a layer; layers with the same
// letters below them are the same; "_" stands for none. Files in the directory $FAKE_DIR tell the
// test what happens: every worker appends a line to `starts`, and `gate` is a FIFO that the
// behaviour "gate" waits for.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/testing/fake_image.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {
namespace {

class FakeWorker {
 public:
  FakeWorker() : channel_(base::UniqueFd(kWorkerSocket)) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(const DaemonMessage first, Receive());
    request_ = std::get<PullRequest>(first);
    const size_t dot = request_.tag.find('.');
    letters_ = request_.tag.substr(0, dot);
    std::erase(letters_, '_');
    image_ = testing::MakeFakeImage(letters_);
    behaviour_ = request_.tag.substr(dot + 1);
    Note(behaviour_);
    if (behaviour_ == "unreachable" || behaviour_ == "denied") {
      return Send(Failed{behaviour_ == "denied"
                             ? absl::PermissionDeniedError("pull it: denied")
                             : absl::UnavailableError("pull it: connection refused")});
    }
    if (behaviour_ == "mute") {
      pause();
    }
    if (behaviour_ == "garbage") {
      return channel_.Send(base::Context(), "{not json");
    }
    Send(Token{.endpoint = 0, .token = "a-token", .expires_at = 4102444800}).IgnoreError();
    RETURN_IF_ERROR(Send(Document()));
    if (behaviour_ == "resolves-twice") {
      RETURN_IF_ERROR(Send(Document()));
    }
    if (behaviour_ == "early-done") {
      return Send(Done{});
    }
    RETURN_IF_ERROR(Ask());
    RETURN_IF_ERROR(Answers());
    return behaviour_ == "silent-end" ? absl::OkStatus() : Send(Done{});
  }

 private:
  void Note(std::string_view line) const {
    std::FILE* file = std::fopen(base::StrCat(std::getenv("FAKE_DIR"), "/starts").c_str(), "a");
    const std::string& token = request_.endpoints.front().bearer_token;
    std::fprintf(file, "%s %s\n", std::string(line).c_str(), token.empty() ? "-" : token.c_str());
    std::fclose(file);
  }

  absl::Status Send(const WorkerMessage& message) {
    return channel_.Send(base::Context(), Encode(message));
  }

  absl::StatusOr<DaemonMessage> Receive() {
    ASSIGN_OR_RETURN(const std::string json, channel_.Receive(base::Context()));
    return ParseDaemonMessage(json);
  }

  Resolved Document() const {
    Resolved resolved;
    resolved.config = image_.config;
    resolved.manifest = image_.manifest;
    resolved.media_type = "application/vnd.oci.image.manifest.v1+json";
    resolved.image_id = image_.id;
    resolved.manifest_digest = image_.manifest_digest;
    if (request_.digest != image_.manifest_digest) {
      resolved.index_digest = image_.index_digest;
      resolved.indexes = {image_.index};
    }
    resolved.endpoint = behaviour_ == "wrong-endpoint" ? 77 : 0;
    return resolved;
  }

  absl::Status Ask() {
    for (size_t i = 0; i < letters_.size(); ++i) {
      LayerQuestion question;
      question.index = static_cast<int>(i);
      question.chain_id = image_.chain_ids[i];
      question.parent = i == 0 ? "" : image_.chain_ids[i - 1];
      question.diff_id = image_.diff_ids[i];
      if (behaviour_ == "wrong-diff-id" && i == 1) {
        question.diff_id = std::string(64, '7');
      }
      if (behaviour_ == "wrong-parent" && i == 1) {
        question.parent = std::string(64, '7');
      }
      question.digest = "sha256:" + question.diff_id;
      RETURN_IF_ERROR(Send(question));
    }
    return absl::OkStatus();
  }

  absl::Status Answers() {
    for (size_t settled = 0; settled < letters_.size();) {
      ASSIGN_OR_RETURN(const DaemonMessage message, Receive());
      const LayerAnswer answer = std::get<LayerAnswer>(message);
      Note(base::StrCat(behaviour_, "-", answer.index, "-",
                        answer.decision == LayerDecision::kHave    ? "have"
                        : answer.decision == LayerDecision::kFetch ? "fetch"
                                                                   : "wait"));
      const bool is_last = behaviour_ == "hoard" && answer.index == 0;  // It comes at the end.
      if (answer.decision == LayerDecision::kFetch && !is_last) {
        RETURN_IF_ERROR(Fetch(static_cast<size_t>(answer.index)));
      }
      settled += answer.decision == LayerDecision::kWait ? 0 : 1;
    }
    return behaviour_ == "hoard" ? Fetch(0) : absl::OkStatus();
  }

  static void PassGate() {
    const std::string gate = base::StrCat(std::getenv("FAKE_DIR"), "/gate");
    base::UniqueFd opened(open(gate.c_str(), O_RDONLY | O_CLOEXEC));
  }

  // Stands still once, until the daemon says to go on.
  absl::Status Stall() {
    RETURN_IF_ERROR(Send(Stalled{absl::UnavailableError("pull it: HTTP 503")}));
    if (behaviour_ == "stall-die") {
      std::abort();
    }
    ASSIGN_OR_RETURN(const DaemonMessage message, Receive());
    Note("resumed");
    return std::get_if<Resume>(&message) != nullptr ? absl::OkStatus()
                                                    : absl::InternalError("no word to go on");
  }

  absl::Status Fetch(size_t index) {
    if (behaviour_ == "gate-stall") {
      PassGate();
      RETURN_IF_ERROR(Stall());
    }
    if (behaviour_.starts_with("stall") && index + 1 == letters_.size()) {
      RETURN_IF_ERROR(Stall());
    }
    const std::string name = base::StrCat(index + 1);
    const std::string directory = base::StrCat(request_.staging_directory, "/", name);
    if (mkdir(directory.c_str(), 0755) != 0) {
      return base::ErrnoStatus(errno, "mkdir");
    }
    RETURN_IF_ERROR(base::ReplaceFile(directory + "/file-" + letters_[index],
                                      letters_.substr(0, index + 1), 0644,
                                      base::Durability::kVolatile));
    LayerDone done = {.index = static_cast<int>(index), .directory = name};
    UnpackedLayer unpacked = {.bytes = 4096, .inodes = 2, .deferred = {}};
    RETURN_IF_ERROR(Misbehave(index, directory, &done, &unpacked));
    if (behaviour_ != "no-verdict") {
      RETURN_IF_ERROR(Judge(index, name, unpacked));
    }
    RETURN_IF_ERROR(Send(done));
    return behaviour_ == "twice" ? Send(done) : absl::OkStatus();
  }

  // Plays the verifier.
  absl::Status Judge(size_t index, const std::string& name, const UnpackedLayer& unpacked) {
    ASSIGN_OR_RETURN(const base::UniqueFd file, MakeUnpackedFile());
    RETURN_IF_ERROR(base::WriteAll(file.get(), Encode(LayerMessage(unpacked)), "unpacked"));
    const bool is_wrong = behaviour_ == "wrong-content";
    return SendVerdict(kVerdictSocket,
                       {name, is_wrong ? std::string(64, '7') : image_.diff_ids[index]},
                       file.get());
  }

  absl::Status Misbehave(size_t index, const std::string& directory, LayerDone* done,
                         UnpackedLayer* unpacked) {
    if (behaviour_ == "gate") {
      PassGate();
    } else if (behaviour_ == "hang") {
      pause();
    } else if (behaviour_ == "crash" && index == letters_.size() - 1) {
      std::abort();
    } else if (behaviour_ == "wrong-directory") {
      done->directory = "77";
    } else if (behaviour_ == "wrong-index") {
      done->index = 77;
    } else if (behaviour_ == "no-directory") {
      RETURN_IF_ERROR(base::RemoveTree(directory));
      RETURN_IF_ERROR(base::ReplaceFile(directory, "", 0644, base::Durability::kVolatile));
    } else if (behaviour_ == "hoard" && index > 0) {
      unpacked->deferred.resize(kMaxDeferredOperations, {.path = "d"});
    } else if (behaviour_ == "missing-link") {
      unpacked->deferred = {
          {.kind = DeferredOperation::Kind::kHardLink, .path = "x", .target = "none"}};
    } else if (behaviour_ == "links" && index == 1) {
      unpacked->deferred = {{.kind = DeferredOperation::Kind::kHardLink,
                             .path = "link",
                             .target = base::StrCat("file-", std::string(1, letters_[0]))}};
    }
    return absl::OkStatus();
  }

  Channel channel_;
  PullRequest request_;
  std::string letters_;
  testing::FakeImage image_;
  std::string behaviour_;
};

}  // namespace
}  // namespace imageservice::worker

int main() {
  const absl::Status status = imageservice::worker::FakeWorker().Run();
  return status.ok() ? 0 : 1;
}
