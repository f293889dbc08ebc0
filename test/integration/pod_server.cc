#include "test/integration/pod_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

constexpr size_t kPiece = 256 << 10;

// A socket keeps the namespace that it was made in.
absl::StatusOr<base::UniqueFd> Listener(const std::string& network, const std::string& address,
                                        uint16_t* port) {
  if (!network.empty()) {
    ASSIGN_OR_RETURN(const base::UniqueFd ns, base::Open(network, O_RDONLY));
    if (setns(ns.get(), CLONE_NEWNET) != 0) return base::ErrnoStatus(errno, "setns");
  }
  sockaddr_storage storage = {};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  socklen_t size = sizeof(*v4);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
  } else {
    v6->sin6_family = AF_INET6;
    size = sizeof(*v6);
    if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) != 1) {
      return absl::InvalidArgumentError("not an address");
    }
  }
  base::UniqueFd listener(socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (storage.ss_family == AF_INET6) {
    setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  auto* generic = reinterpret_cast<sockaddr*>(&storage);
  if (bind(listener.get(), generic, size) != 0 || listen(listener.get(), 512) != 0 ||
      getsockname(listener.get(), generic, &size) != 0) {
    return base::ErrnoStatus(errno, "listen");
  }
  // The port is at the same place in both families.
  *port = ntohs(v4->sin_port);
  return listener;
}

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void Echo(int fd) {
  std::vector<char> buffer(kPiece);
  ssize_t got = 0;
  while ((got = recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
    if (!SendAll(fd, std::string_view(buffer.data(), static_cast<size_t>(got)))) return;
  }
}

void Digest(int fd) {
  std::vector<char> buffer(kPiece);
  ByteSum sum;
  ssize_t got = 0;
  while ((got = recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
    sum.Add(std::string_view(buffer.data(), static_cast<size_t>(got)));
  }
  SendAll(fd, sum.Text() + "\n");
}

void Source(int fd) {
  std::string line;
  char c = 0;
  while (recv(fd, &c, 1, 0) == 1 && c != '\n') line += c;
  int64_t left = 0;
  if (!absl::SimpleAtoi(line, &left)) return;
  TestBytes bytes(1);
  while (left > 0) {
    const size_t size = std::min(kPiece, static_cast<size_t>(left));
    if (!SendAll(fd, bytes.Next(size))) return;
    left -= static_cast<int64_t>(size);
  }
}

void Serve(int fd, PodServer::Kind kind) {
  char c = 0;
  const linger at_once = {1, 0};
  const timeval patience = {10, 0};
  switch (kind) {
    case PodServer::Kind::kEcho:
      return Echo(fd);
    case PodServer::Kind::kDigest:
      return Digest(fd);
    case PodServer::Kind::kSource:
      return Source(fd);
    case PodServer::Kind::kSilent:
      return;
    case PodServer::Kind::kReset:
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      recv(fd, &c, 1, 0);
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
      return;
  }
}

// Until the listener is shut down. The connections are shut down then, so that their threads end.
void Accept(int listener, PodServer::Kind kind) {
  std::list<base::UniqueFd> connections;
  std::vector<std::thread> threads;
  while (true) {
    base::UniqueFd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) break;
    // What a silent server has accepted stays open as long as the server.
    if (kind == PodServer::Kind::kSilent) {
      connections.push_back(std::move(client));
      continue;
    }
    if (kind == PodServer::Kind::kReset) {
      Serve(client.get(), kind);
      continue;
    }
    connections.emplace_back(dup(client.get()));
    threads.emplace_back([kind, fd = client.Release()] {
      Serve(fd, kind);
      shutdown(fd, SHUT_RDWR);
      close(fd);
    });
  }
  for (const base::UniqueFd& connection : connections) shutdown(connection.get(), SHUT_RDWR);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

absl::StatusOr<std::unique_ptr<PodServer>> PodServer::Start(const std::string& network,
                                                            const std::string& address, Kind kind) {
  absl::StatusOr<base::UniqueFd> listener = absl::UnknownError("");
  uint16_t port = 0;
  // A thread that enters a namespace stays in it.
  std::thread([&] { listener = Listener(network, address, &port); }).join();
  if (!listener.ok()) return listener.status();
  return std::unique_ptr<PodServer>(new PodServer(*std::move(listener), port, kind));
}

PodServer::PodServer(base::UniqueFd listener, uint16_t port, Kind kind)
    : listener_(std::move(listener)),
      port_(port),
      thread_([fd = listener_.get(), kind] { Accept(fd, kind); }) {}

PodServer::~PodServer() {
  shutdown(listener_.get(), SHUT_RDWR);
  thread_.join();
}

// Pieces may come in any cuts, so the sum goes byte by byte.
void ByteSum::Add(std::string_view bytes) {
  count_ += bytes.size();
  uint64_t sum = sum_;
  for (const char c : bytes) {
    sum = (sum ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  }
  sum_ = sum;
}

std::string ByteSum::Text() const { return base::StrCat(count_, " ", sum_); }

}  // namespace test
