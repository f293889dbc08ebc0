// Pipes, terminals and sockets on the loop. They are read and written by plain system calls and
// waited for by Asio, so that no buffer is held for what is not there yet.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "runtimeservice/streaming/async.h"

namespace streaming {

// Owned; closing or cancelling it wakes whoever waits for it.
using Descriptor = asio::posix::stream_descriptor;

// Gives `fd` to the loop and makes it non-blocking.
Descriptor Adopt(asio::io_context& loop, base::UniqueFd fd);

// Both close-on-exec and blocking; as large as the system lets it be.
struct Pipe {
  base::UniqueFd read_end;
  base::UniqueFd write_end;
};
absl::StatusOr<Pipe> MakePipe();

// Until it can be read, or written, or has an error to be read; false when it was closed or
// cancelled.
Task<bool> Readable(Descriptor& descriptor);
Task<bool> Writable(Descriptor& descriptor);
// The same, but none when it took longer than `limit`.
Task<std::optional<bool>> WritableWithin(Descriptor& descriptor, absl::Duration limit);

// What is there now: 0 at the end (also a terminal that nobody has open any more, and a descriptor
// that was closed), none when it would have to wait.
std::optional<size_t> ReadNow(Descriptor& descriptor, std::span<char> buffer);

// Writes what goes now: 0 when it would have to wait. CANCELLED when nobody reads any more or it
// was closed.
absl::StatusOr<size_t> WriteNow(Descriptor& descriptor, std::string_view bytes);
// Writes all of it, however long that takes. CANCELLED when nobody reads any more or it was closed.
Task<absl::Status> WriteAll(Descriptor& descriptor, std::string_view bytes);

// How many bytes could be read at once.
size_t BytesThere(Descriptor& descriptor);

}  // namespace streaming
