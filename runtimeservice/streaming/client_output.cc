#include "runtimeservice/streaming/client_output.h"

namespace streaming {

Task<absl::Status> ClientOutput::Write(OutputStream stream, std::string_view bytes) {
  ++waiting_;
  const absl::Status written = co_await client_.Write(stream, bytes);
  --waiting_;
  ++taken_;
  co_return written;
}

Task<> ClientOutput::Finish(const CommandResult& result) {
  ++waiting_;
  co_await client_.Finish(result);
  --waiting_;
  ++taken_;
}

void ClientOutput::End() {
  ended_ = true;
  told_signal_.Notify();
}

Task<bool> ClientOutput::DropStalled(absl::Duration limit) {
  while (!ended_) {
    const uint64_t before = taken_;
    const bool waited = waiting_ > 0;
    co_await told_signal_.WaitFor(limit);
    if (!ended_ && waited && waiting_ > 0 && taken_ == before) {
      client_.Abort();
      co_return true;
    }
  }
  co_return false;
}

}  // namespace streaming
