// The monitor's socket: state, log rotation, terminal size, and attached clients.
#pragma once

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "conmon/container.h"
#include "conmon/log_file.h"
#include "conmon/options.h"
#include "conmon/protocol.h"

namespace conmon {

// Never blocks: a client that does not read what it is sent is dropped.
class Server {
 public:
  static constexpr size_t kMaxClients = 16;
  static constexpr size_t kMaxAttached = 12;  // The rest is left to the daemon.
  static constexpr size_t kPollEntries = kMaxClients + 2;

  static constexpr size_t kPayloadSize = kMaxPacket + 1;
  static constexpr size_t kPendingSize = kMaxPacket;

  // `payload`, of kPayloadSize, and `pending`, of kPendingSize, outlive this object; between calls
  // the first holds nothing.
  Server(const Options& options, Container* container, LogFile* log, char* payload, char* pending)
      : options_(options),
        container_(*container),
        log_(*log),
        payload_(payload),
        pending_(pending) {}

  // Binds the socket in the state directory and listens; 0 or an errno. Connections wait until
  // Handle.
  int Listen(int state_dir);

  // What to wait for, in `entries[kPollEntries]`, and what to do about what came.
  void Watch(pollfd* entries) const;
  void Handle(const pollfd* entries);

  // To all attached clients.
  void Broadcast(uint32_t stream, const char* data, size_t length);

  // Tells every client how the container ended and closes everything.
  void Finish(int state_dir);

 private:
  struct Client {
    int fd = -1;
    uint32_t streams = 0;  // Not 0: attached.
  };

  void Accept();
  void Receive(Client* client);
  void Answer(Client* client, const Header& header, size_t length);
  void SendState(Client* client, uint32_t sequence);
  void SendReply(Client* client, uint32_t sequence, int error);
  void Send(Client* client, const iovec* pieces, size_t count, int passed_fd = -1);
  int Resize(size_t length) const;
  int Attach(Client* client, size_t length);
  void TakeStdin(size_t length);
  void WriteStdin();
  void EndStdin(const Client& client);
  void Drop(Client* client);

  const Options& options_;
  Container& container_;
  LogFile& log_;
  int listener_ = -1;
  Client clients_[kMaxClients];
  char* const payload_;  // Of the packet at hand.
  // Input that the container has not taken yet; while there is some, nobody's input is read.
  size_t pending_start_ = 0;
  size_t pending_end_ = 0;
  char* const pending_;
};

}  // namespace conmon
