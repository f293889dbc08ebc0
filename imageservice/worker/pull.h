// One pull from beginning to end, inside the worker.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "imageservice/worker/archive_source.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/layer_stream.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/blob_reader.h"
#include "imageservice/worker/registry/client.h"
#include "imageservice/worker/resolve.h"

namespace imageservice::worker {

// Resolves the reference, asks the daemon about the layers and fetches those it wants, several at
// once.
class Pull {
 public:
  // All must outlive this. `request` and `forker` are used by several threads. With an archive
  // nothing is asked of the network.
  Pull(const PullRequest* request, Channel* channel, Forker* forker,
       ArchiveSource* archive = nullptr)
      : request_(*request), channel_(*channel), forker_(*forker), archive_(archive) {}

  // Returns when every layer is in place. After an error fetches may still be running in threads:
  // the process must end without destroying this. Sends all messages but `done` and `error`.
  absl::StatusOr<Done> Run();

  // The daemon's answer to a question; from another thread than Run's. INVALID_ARGUMENT when there
  // was no such question.
  absl::Status Answer(const LayerAnswer& answer);

  // The daemon wants to go on after `stalled`; from another thread than Run's.
  void GoOn();

 private:
  enum class State { kAsked, kWaiting, kQueued, kFetching, kStalled, kSettled };

  absl::Status Send(const WorkerMessage& message);
  absl::Status ResolveAtRegistry();
  absl::Status AskAboutLayers();
  absl::Status AwaitLayers();
  bool NothingLeft() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool NothingMoves() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t Count(State state) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Stalled DescribeStall() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int TakeQueued() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FetchLayers();
  absl::Status FetchLayer(const LayerQuestion& layer);
  absl::Status WaitToGoOn(int layer, const absl::Status& why);
  absl::StatusOr<LayerDone> Stream(const LayerQuestion& layer, const ByteSource& bytes);
  absl::Status ReadFromArchive(const LayerQuestion& layer);
  std::vector<BlobSource> SourcesOf(const LayerQuestion& layer);

  const PullRequest& request_;
  Channel& channel_;
  Forker& forker_;
  ArchiveSource* const archive_;
  RangeBudget range_budget_;
  std::unique_ptr<HttpClient> http_;
  std::unique_ptr<RegistryClient> client_;
  ResolvedImage image_;  // Constant once the fetching threads run.
  std::vector<std::thread> threads_;
  std::atomic<int> directories_ = 0;
  std::atomic<uint64_t> bytes_done_ = 0;

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<State> states_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> stalls_ ABSL_GUARDED_BY(mutex_);    // By layer, while it is kStalled.
  std::vector<absl::Duration> pauses_ ABSL_GUARDED_BY(mutex_);  // By layer, the last one's length.
  bool is_stall_told_ ABSL_GUARDED_BY(mutex_) = false;
  int times_resumed_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bytes_total_ ABSL_GUARDED_BY(mutex_) = 0;
  Stages stages_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice::worker
