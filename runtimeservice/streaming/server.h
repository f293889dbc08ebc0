// The listener of crisp-stream: connections in, one door for each.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "runtimeservice/streaming/activity.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/sessions.h"

namespace streaming {

struct ServerConfig {
  std::string address;  // An IP address.
  uint16_t port = 0;    // 0: a free one.
  bool tls = false;     // For the URL alone.
  size_t max_sessions = 1000;
};

// For the loop's thread.
class Server {
 public:
  // Serves one connection to its end; it is a session once it was admitted.
  using Serve = std::function<Task<>(asio::ip::tcp::socket, Admit)>;

  // Connections that have not shown a good request yet. With one more the oldest is dropped: who
  // only connects keeps nobody else out.
  static constexpr size_t kMaxVisitors = 256;

  // Listens; connections are taken from the next turn of the loop on. The error names the setting
  // that is to blame. `activity` outlives the result; the result outlives the loop's run.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(asio::io_context& loop,
                                                        const ServerConfig& config, Serve serve,
                                                        Activity& activity);

  uint16_t port() const { return port_; }
  // The URL with this path; its host is one that processes of this machine reach.
  std::string Url(std::string_view path) const;
  // Connections that were admitted and are open.
  size_t sessions() const { return sessions_; }
  // Takes no more connections and gives the port up; those that are there go on. May be repeated.
  void Close();

 private:
  Server(asio::io_context& loop, const ServerConfig& config, Serve serve, Activity& activity);
  absl::Status Open();
  Task<> Accept();
  Task<> ServeOne(asio::ip::tcp::socket socket);
  absl::Status AdmitSession();
  void DropOldestVisitor();
  void LogSometimes(std::string_view text);

  asio::io_context& loop_;
  const ServerConfig config_;
  const Serve serve_;
  Activity& activity_;
  asio::ip::tcp::acceptor acceptor_;
  uint16_t port_ = 0;
  size_t sessions_ = 0;
  // Their sockets a second time: what shuts one down may come after its owner closed it.
  std::list<base::UniqueFd> visitors_;
  Signal visitor_left_;
  base::SteadyTime next_log_ = base::SteadyTime::InfinitePast();
};

}  // namespace streaming
