// A door on a loopback port, with a source and a runner of the test's own, and blocking clients.
// The loop runs on a thread of its own; what the sessions leave is read after Stop.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "runtimeservice/streaming/http_door.h"
// After Asio's workaround in async.h.
#include <boost/asio/post.hpp>

#include "absl/strings/escaping.h"
#include "base/strings.h"

namespace streaming {

// The bytes that `hex` spells.
inline std::string FromHex(std::string_view hex) {
  return absl::HexStringToBytes(absl::string_view(hex.data(), hex.size()));
}

// A blocking TCP client; every wait ends after ten seconds.
class TestClient {
 public:
  explicit TestClient(uint16_t port) : socket_(io_) {
    socket_.connect({asio::ip::make_address("127.0.0.1"), port});
    const timeval limit = {.tv_sec = 10, .tv_usec = 0};
    setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    socket_.set_option(asio::ip::tcp::no_delay(true));
  }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        return;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // `size` bytes, fewer at the end of the connection.
  std::string Receive(size_t size) {
    std::string bytes(size, '\0');
    size_t filled = 0;
    while (filled < size) {
      const ssize_t got = recv(socket_.native_handle(), bytes.data() + filled, size - filled, 0);
      if (got <= 0) {
        break;
      }
      filled += static_cast<size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
  }
  std::string ReceiveAll() {
    std::string all;
    for (std::string more = Receive(1); !more.empty(); more = Receive(1)) {
      all += more;
    }
    return all;
  }
  // An HTTP header with its empty line.
  std::string ReceiveHead() {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string more = Receive(1);
      if (more.empty()) {
        break;
      }
      head += more;
    }
    return head;
  }
  void FinishWriting() { socket_.shutdown(asio::ip::tcp::socket::shutdown_send); }
  int fd() { return socket_.native_handle(); }

 private:
  asio::io_context io_;
  asio::ip::tcp::socket socket_;
};

// Collects what a command's client sends; echoes it on standard output. At "stall" it takes no more
// until `resumed`.
class EchoInput : public CommandInput {
 public:
  EchoInput(asio::io_context& loop, CommandClient& client)
      : ended(loop), resumed(loop), client_(client) {}
  Task<> Stdin(std::string_view bytes) override {
    if (bytes == "stall") {
      co_await resumed.Wait();
    }
    received += bytes;
    (co_await client_.Write(OutputStream::kStdout, bytes)).IgnoreError();
  }
  void StdinEnded() override {
    stdin_ended = true;
    ended.Notify();
    resumed.Notify();
  }
  void Resized(uint16_t width, uint16_t height) override {
    sizes.push_back(base::StrCat(width, "x", height));
  }

  std::string received;
  bool stdin_ended = false;
  std::vector<std::string> sizes;
  Signal ended;  // `stdin_ended`, or the client.
  Signal resumed;

 private:
  CommandClient& client_;
};

class TestDoor : public SessionSource, public SessionRunner {
 public:
  explicit TestDoor(Limits limits = {}, TlsContext* tls = nullptr)
      : door_{.loop = loop_, .limits = limits, .tls = tls, .source = *this, .runner = *this},
        acceptor_(loop_, {asio::ip::make_address("127.0.0.1"), 0}),
        work_(loop_.get_executor()) {
    stream::Session exec;
    exec.mutable_exec()->set_stdin(true);
    exec.mutable_exec()->set_stdout(true);
    exec.mutable_exec()->set_stderr(true);
    sessions["exec/good"] = exec;
    sessions["portforward/good"].mutable_port_forward()->add_ports(8080);
  }
  ~TestDoor() override { Stop(); }

  // Before the first client.
  void Start() {
    Spawn(loop_, Accept());
    thread_ = std::thread([this] { loop_.run(); });
  }
  // Lets the connections end, then joins the loop.
  void Stop() {
    if (thread_.joinable()) {
      asio::post(loop_, [this] { acceptor_.close(); });
      work_.reset();
      thread_.join();
    }
  }
  // Goes on with an input that stalled.
  void Resume() {
    asio::post(loop_, [this] {
      if (const std::shared_ptr<EchoInput> input = input_.lock()) {
        input->resumed.Notify();
      }
    });
  }
  uint16_t port() { return acceptor_.local_endpoint().port(); }
  Door& door() { return door_; }
  asio::io_context& loop() { return loop_; }

  absl::StatusOr<stream::Session> Redeem(std::string_view kind, std::string_view token) override {
    redeemed.push_back(base::StrCat(kind, "/", token));
    const auto found = sessions.find(redeemed.back());
    if (found == sessions.end()) {
      return absl::NotFoundError("no such token");
    }
    stream::Session session = found->second;
    sessions.erase(found);
    return session;
  }

  // Echoes input until it ends, then finishes with `result`.
  Task<> RunExec(const stream::ExecSession& session, CommandClient& client) override {
    const CommandStreams streams = {.stdin_wanted = session.stdin(),
                                    .stdout_wanted = session.stdout(),
                                    .stderr_wanted = session.stderr(),
                                    .tty = session.tty()};
    opened = co_await client.Open(streams);
    auto input = std::make_shared<EchoInput>(loop_, client);
    input_ = input;
    Signal read_over(loop_);
    bool over = false;
    Spawn(loop_, Read(client, input, &over, &read_over));
    while (!input->stdin_ended && !over && streams.stdin_wanted) {
      co_await input->ended.Wait();
    }
    if (!over || input->stdin_ended) {
      for (const std::string& text : errors) {
        (co_await client.Write(OutputStream::kStderr, text)).IgnoreError();
      }
      co_await client.Finish(result);
    }
    while (!over) {
      co_await read_over.Wait();
    }
    received = input->received;
    sizes = input->sizes;
    stdin_ended = input->stdin_ended;
  }
  Task<> RunAttach(const stream::AttachSession&, CommandClient& client) override {
    co_await client.Finish(result);
  }
  // Echoes each connection; reports a port 1 as a failure, and of port 2 reads nothing.
  Task<> RunPortForward(const stream::PortForwardSession&, ForwardClient& client) override {
    std::vector<std::shared_ptr<ForwardedConnection>> not_read;
    const ForwardClient::OnConnection opened_one =
        [this, &not_read](std::shared_ptr<ForwardedConnection> connection) {
          if (connection->port() == 2) {
            not_read.push_back(std::move(connection));
          } else {
            Spawn(loop_, Echo(std::move(connection)));
          }
        };
    forward_end = co_await client.Serve(opened_one);
  }

  std::map<std::string, stream::Session> sessions;  // By "KIND/TOKEN".
  CommandResult result;
  std::vector<std::string> errors;  // Written to standard error before the end.

  std::vector<std::string> redeemed;
  absl::Status opened;
  absl::Status read_end;
  absl::Status forward_end;
  std::string received;
  std::vector<std::string> sizes;
  bool stdin_ended = false;

 private:
  Task<> Accept() {
    while (true) {
      Error error;
      asio::ip::tcp::socket socket = co_await acceptor_.async_accept(Await(error));
      if (error) {
        co_return;
      }
      Spawn(loop_, ServeConnection(std::move(socket), door_));
    }
  }
  Task<> Read(CommandClient& client, std::shared_ptr<EchoInput> input, bool* over, Signal* signal) {
    read_end = co_await client.ReadInput(*input);
    *over = true;
    input->ended.Notify();
    signal->Notify();
  }
  static Task<> Echo(std::shared_ptr<ForwardedConnection> connection) {
    if (connection->port() == 1) {
      co_await connection->Fail("connection refused");
      co_return;
    }
    while (true) {
      const absl::StatusOr<std::string_view> bytes = co_await connection->Read();
      if (!bytes.ok()) {
        co_return;
      }
      if (bytes->empty()) {
        co_await connection->FinishWriting();
        co_return;
      }
      (co_await connection->Write(*bytes)).IgnoreError();
    }
  }

  asio::io_context loop_;
  std::weak_ptr<EchoInput> input_;  // Of the last exec.
  Door door_;
  asio::ip::tcp::acceptor acceptor_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace streaming
