// The control socket of crisp-stream (protocol.h): requests of the daemon, answered in order.
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/activity.h"
#include "runtimeservice/streaming/async.h"

namespace streaming {

// For the loop's thread. Only root, and the user that this process runs as, is heard.
class ControlServer {
 public:
  // Answers at once.
  using Answer = std::function<crisp::stream::Reply(crisp::stream::Request)>;

  // Listens at `path`. `activity` outlives the result; the result outlives the loop's run.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Listen(asio::io_context& loop,
                                                               const std::string& path,
                                                               Answer answer, Activity& activity);
  // Takes no more connections and removes the socket. Whoever has sent a request that was not read
  // sees the connection end with the process. May be repeated.
  void Close();

 private:
  using Protocol = asio::local::stream_protocol;
  ControlServer(asio::io_context& loop, const std::string& path, Answer answer, Activity& activity)
      : loop_(loop),
        path_(path),
        answer_(std::move(answer)),
        activity_(activity),
        acceptor_(loop),
        freed_(loop) {}
  absl::Status Open();
  Task<> Accept();
  Task<> Serve(Protocol::socket socket);

  asio::io_context& loop_;
  const std::string path_;
  const Answer answer_;
  Activity& activity_;
  Protocol::acceptor acceptor_;
  size_t connections_ = 0;
  Signal freed_;
};

}  // namespace streaming
