// For tests: the daemon's side of a pull, with the real crisp-pull on the other.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/subprocess.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {

// All that a worker said.
struct PullOutcome {
  absl::Status status = absl::UnknownError("the worker said neither done nor error");
  std::optional<Resolved> resolved;
  std::vector<LayerQuestion> questions;
  // The layers with a verdict: folder and what the parser made of it.
  struct Layer {
    std::string directory;
    UnpackedLayer unpacked;
  };
  std::map<int, Layer> layers;
  std::vector<Token> tokens;
  std::vector<std::string> warnings;
  std::vector<absl::Status> stalls;
  Progress progress;
  Done done;
};

// Why it failed.
std::string Message(const PullOutcome& outcome);

class TestDaemon {
 public:
  TestDaemon();

  // A request for `name`:`tag` from one endpoint.
  PullRequest Request(const std::string& url, const std::string& repository,
                      const std::string& tag) const;

  // Starts a worker without talking to it.
  void StartWorker();
  // Sends the request to it and answers its questions until it ends.
  using Decide = std::function<std::vector<LayerAnswer>(const LayerQuestion&)>;
  PullOutcome Converse(const PullRequest& request, const Decide& decide);

  // What to say to `stalled`: true resumes. Otherwise the pull ends with its status.
  std::function<bool(const Stalled&)> on_stalled;
  // Of the worker: proxies.
  std::vector<std::string> environment;

  // A whole pull that fetches every layer.
  PullOutcome Pull(const PullRequest& request);

  // The path of an unpacked layer.
  std::string LayerPath(const PullOutcome& outcome, int index) const;
  std::string staging() const { return directory_.path() + "/staging"; }
  Channel& channel() { return *channel_; }
  void CloseChannel() { channel_.reset(); }
  base::Subprocess& process() { return *process_; }
  // Of the worker that was started last; 0: none. From any thread.
  pid_t pid() const { return pid_; }

 private:
  TempDirectory directory_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<VerdictBox> verdicts_;
  std::unique_ptr<base::Subprocess> process_;
  std::atomic<pid_t> pid_ = 0;
};

}  // namespace imageservice::worker
