// One client's SPDY/3.1 connection, from the byte behind the HTTP upgrade to its close: streams,
// replies, pings, the farewell. What streams mean is the business of spdy_command and spdy_forward.
//
// There is no send window: the Go clients have none and would hang. TCP slows a fast sender down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/flow_buffer.h"
#include "runtimeservice/streaming/limits.h"
#include "runtimeservice/streaming/spdy_frames.h"
#include "runtimeservice/streaming/spdy_headers.h"

namespace streaming {

// What a client did.
struct SpdyEvent {
  enum class Kind {
    kOpened,  // A stream, with `headers`: to be accepted or reset.
    kData,    // `bytes` came, which may be none.
    kReset,   // The client gave the stream up; nothing can be written to it any more.
  };
  Kind kind = Kind::kData;
  uint32_t stream = 0;
  SpdyHeaders headers;
  std::string_view bytes;  // Valid until the next call of Next.
  bool fin = false;        // The client sends no more on this stream.
};

class SpdyConnection : public std::enable_shared_from_this<SpdyConnection> {
 public:
  static std::shared_ptr<SpdyConnection> Create(asio::io_context& loop,
                                                std::unique_ptr<ByteStream> bytes,
                                                const Limits& limits);

  // The next thing the client did. Nothing at the end of a connection that Finish ended; CANCELLED
  // when the client left, INVALID_ARGUMENT or RESOURCE_EXHAUSTED when it broke the protocol or a
  // limit (it is told by GOAWAY), DEADLINE_EXCEEDED when it was idle for too long or missed the
  // deadline. Not reading on is the back-pressure. A second caller, while another one waits, gets
  // the end only.
  Task<absl::StatusOr<std::optional<SpdyEvent>>> Next();

  // Answers SYN_STREAM. Before that nothing can be written to a stream.
  void Accept(uint32_t stream);
  // Refuses a stream, or ends it at once and for both directions.
  void Reset(uint32_t stream, SpdyReset reason);

  // Returns when `bytes` are on their way. Writers take turns. CANCELLED when the client has reset
  // the stream or is gone.
  Task<absl::Status> Write(uint32_t stream, std::string_view bytes);
  // As Write, for a few words, and without waiting: they are kept until the socket takes them.
  void WriteShort(uint32_t stream, std::string_view text);
  // Half-closes a stream: after its last Write.
  void FinishStream(uint32_t stream);

  // Unless it is cleared in time, the connection ends with `why`, which the client is not told.
  void SetDeadline(base::SteadyTime deadline, absl::Status why);
  void ClearDeadline() { deadline_.reset(); }

  // The orderly end: GOAWAY behind all that was written, then end of file, then what the client
  // still sends is read and dropped, because closing with unread input would make the kernel throw
  // away output that the client has not read yet. Returns when the client has closed, at the latest
  // when it has got everything for as long as the limit `farewell`, or taken nothing for `idle`.
  Task<> Finish();
  // At once. Repeats do nothing.
  void Close(absl::Status why);
  bool closed() const { return closed_; }
  // Called once, at the end of the connection, which is noticed although nobody calls Next: a
  // client whose input waits is sent pings.
  void OnClosed(std::function<void()> closed) { on_closed_ = std::move(closed); }

 private:
  struct Stream {
    bool accepted = false;
    bool client_done = false;
    bool server_done = false;
  };
  using Frame = SpdyFrame;

  SpdyConnection(asio::io_context& loop, std::unique_ptr<ByteStream> bytes, const Limits& limits);

  // Frames to events; an error ends the connection.
  absl::StatusOr<std::optional<SpdyEvent>> Handle(const Frame& frame);
  absl::StatusOr<std::optional<SpdyEvent>> HandleSynStream(const Frame& frame);
  std::optional<SpdyEvent> HandleData(const Frame& frame);
  absl::StatusOr<std::string> Inflate(std::string_view compressed);
  std::optional<SpdyReset> Refusal(const Frame& frame, const absl::StatusOr<SpdyHeaders>& headers);
  Task<> Fill();

  // Queues a control frame; it goes out with the next data or by itself.
  void Send(std::string_view frame);
  // Sends what is queued, then `pieces`, of which the first is a place for the former. For who has
  // the turn.
  Task<absl::Status> WriteOut(std::span<std::string_view> pieces);
  absl::Status Writable(uint32_t stream) const;
  void Forget(uint32_t stream);
  // No more is taken in or sent but GOAWAY; the client has `patience` to close.
  void Leave(SpdyGoAway reason, absl::Status why, absl::Duration patience);

  using Self = std::shared_ptr<SpdyConnection>;
  static Task<> FlushQueue(Self self);
  static Task<> SayGoodbye(Self self);
  static Task<> CloseAfter(Self self, absl::Duration patience);
  static Task<> CloseWhenTaken(Self self);
  static Task<> Watch(Self self);
  // When the watch has something to do at the latest, and why the connection would end then.
  std::pair<base::SteadyTime, absl::Status> NextDeadline() const;
  void ProbeStalledClient();

  asio::io_context& loop_;
  const std::unique_ptr<ByteStream> bytes_;
  const Limits limits_;
  SpdyDecoder decoder_;
  SpdyInflater inflater_;
  SpdyDeflater deflater_;
  FlowBuffer buffer_;
  size_t last_read_ = 0;
  std::string_view input_;  // Of buffer_, what is not decoded yet.
  size_t work_ = 0;         // Inflated bytes and frames since others had their turn.

  std::unordered_map<uint32_t, Stream> streams_;
  uint32_t last_stream_ = 0;  // The client's highest so far.
  bool refusal_logged_ = false;
  bool client_goes_ = false;  // It has sent GOAWAY.

  Turns turns_;
  std::string queue_;    // Control frames to send.
  std::string sending_;  // Those that are being sent.
  bool flush_pending_ = false;
  bool reader_waits_ = false;  // For room in queue_.

  // Notified when the connection closes, leaves, has another deadline or room in queue_.
  Signal changed_;
  base::SteadyTime last_data_;
  size_t events_ = 0;  // Given out by Next,
  size_t probed_ = 0;  // and as they were when the watch last looked.
  std::optional<base::SteadyTime> deadline_;
  absl::Status deadline_why_;
  std::optional<absl::Status> why_;  // It ends, or has ended; OK: by Finish.
  bool watched_ = false;
  bool reading_ = false;
  bool leaving_ = false;
  bool closed_ = false;
  std::function<void()> on_closed_;
};

}  // namespace streaming
