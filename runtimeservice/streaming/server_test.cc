#include "runtimeservice/streaming/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace streaming {
namespace {

// Who says "in" wants to be admitted and is told the answer; everybody stays until he leaves.
Task<> Greet(asio::ip::tcp::socket socket, Admit admit) {
  Error error;
  char bytes[16];
  while (!error) {
    const size_t size = co_await socket.async_read_some(asio::buffer(bytes), Await(error));
    if (std::string_view(bytes, size) == "in") {
      const bool admitted = admit().ok();
      socket.send(asio::buffer(admitted ? "y" : "n", 1), 0, error);
    }
  }
}

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() {
    auto server =
        Server::Listen(loop_, {.address = "127.0.0.1", .max_sessions = 2}, Greet, activity_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~AdmissionTest() override {
    loop_.stop();
    thread_.join();
  }

  base::UniqueFd Connect() const {
    base::UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return client;
  }
  // "y", "n", or nothing when the server has hung up.
  static std::string Ask(const base::UniqueFd& client) {
    send(client.get(), "in", 2, MSG_NOSIGNAL);
    return Read(client);
  }
  static std::string Read(const base::UniqueFd& client) {
    char byte = 0;
    return recv(client.get(), &byte, 1, 0) == 1 ? std::string(1, byte) : "";
  }

  asio::io_context loop_{1};
  Activity activity_{loop_};
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

TEST_F(AdmissionTest, NoMoreThanTheLimitAreAdmitted) {
  const base::UniqueFd first = Connect();
  EXPECT_EQ(Ask(first), "y");
  {
    const base::UniqueFd second = Connect();
    EXPECT_EQ(Ask(second), "y");
    EXPECT_EQ(Ask(Connect()), "n");
  }
  // The second's place is free once its end was seen.
  while (Ask(Connect()) != "y") {
  }
}

TEST_F(AdmissionTest, WhoOnlyConnectsKeepsNobodyOut) {
  const base::UniqueFd session = Connect();
  EXPECT_EQ(Ask(session), "y");
  std::vector<base::UniqueFd> silent;
  for (size_t i = 0; i < 3 * Server::kMaxVisitors; ++i) {
    silent.push_back(Connect());
  }
  const base::UniqueFd late = Connect();
  EXPECT_EQ(Ask(late), "y");
  EXPECT_EQ(Read(silent.front()), "");  // The oldest were dropped,
  EXPECT_EQ(Ask(silent.back()), "n");   // not the youngest,
  char byte = 0;                        // and no session.
  EXPECT_EQ(recv(session.get(), &byte, 1, MSG_DONTWAIT), -1);
}

}  // namespace
}  // namespace streaming
