#include "base/systemd.h"

#include <dlfcn.h>
#include <poll.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr char kAddress[] = "unix:path=/run/systemd/private";
constexpr char kService[] = "org.freedesktop.systemd1";
constexpr char kManagerPath[] = "/org/freedesktop/systemd1";
constexpr char kManager[] = "org.freedesktop.systemd1.Manager";
constexpr char kUnit[] = "org.freedesktop.systemd1.Unit";
constexpr char kNoSuchUnit[] = "org.freedesktop.systemd1.NoSuchUnit";
constexpr absl::Duration kCallTime = absl::Seconds(10);

// What is used of the library.
struct Library {
  decltype(&::sd_bus_new) bus_new = nullptr;
  decltype(&::sd_bus_set_address) set_address = nullptr;
  decltype(&::sd_bus_start) start = nullptr;
  decltype(&::sd_bus_set_method_call_timeout) set_timeout = nullptr;
  decltype(&::sd_bus_flush_close_unref) close = nullptr;
  decltype(&::sd_bus_call_method) call = nullptr;
  decltype(&::sd_bus_get_property_string) get_string = nullptr;
  decltype(&::sd_bus_message_read) read = nullptr;
  decltype(&::sd_bus_message_unref) unref = nullptr;
  decltype(&::sd_bus_error_free) error_free = nullptr;
};

template <typename Function>
bool Find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  return *function != nullptr;
}

absl::StatusOr<Library> Load() {
  void* const handle = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
  Library library;
  if (handle == nullptr || !Find(handle, "sd_bus_new", &library.bus_new) ||
      !Find(handle, "sd_bus_set_address", &library.set_address) ||
      !Find(handle, "sd_bus_start", &library.start) ||
      !Find(handle, "sd_bus_set_method_call_timeout", &library.set_timeout) ||
      !Find(handle, "sd_bus_flush_close_unref", &library.close) ||
      !Find(handle, "sd_bus_call_method", &library.call) ||
      !Find(handle, "sd_bus_get_property_string", &library.get_string) ||
      !Find(handle, "sd_bus_message_read", &library.read) ||
      !Find(handle, "sd_bus_message_unref", &library.unref) ||
      !Find(handle, "sd_bus_error_free", &library.error_free)) {
    return absl::FailedPreconditionError(StrCat("load libsystemd: ", dlerror()));
  }
  return library;
}

const absl::StatusOr<Library>& TheLibrary() {
  static const auto* const library = new absl::StatusOr<Library>(Load());
  return *library;
}

// One connection and what is asked over it. For one thread.
class Connection {
 public:
  explicit Connection(const Library& library) : library_(library) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (bus_ != nullptr) library_.close(bus_);
    library_.error_free(&error_);
  }

  absl::Status Open(const Context& ctx) {
    int result = library_.bus_new(&bus_);
    if (result >= 0) result = library_.set_address(bus_, kAddress);
    if (result >= 0) result = library_.start(bus_);
    if (result < 0) return Failure(result, "connect");
    const absl::Duration left = std::min(ctx.deadline() - SteadyTime::Now(), kCallTime);
    library_.set_timeout(
        bus_, static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Microseconds(left), 1000)));
    return absl::OkStatus();
  }

  // StopUnit: NOT_FOUND when there is no such unit.
  absl::Status Stop(const std::string& unit) {
    return Failure(library_.call(bus_, kService, kManagerPath, kManager, "StopUnit", &error_,
                                 nullptr, "ss", unit.c_str(), "replace"),
                   "StopUnit");
  }

  absl::Status ResetFailed(const std::string& unit) {
    return Failure(library_.call(bus_, kService, kManagerPath, kManager, "ResetFailedUnit", &error_,
                                 nullptr, "s", unit.c_str()),
                   "ResetFailedUnit");
  }

  // "active", "deactivating", "failed", …; NOT_FOUND when the unit is not loaded.
  absl::StatusOr<std::string> ActiveState(const std::string& unit) {
    sd_bus_message* reply = nullptr;
    RETURN_IF_ERROR(Failure(library_.call(bus_, kService, kManagerPath, kManager, "GetUnit",
                                          &error_, &reply, "s", unit.c_str()),
                            "GetUnit"));
    const char* path = nullptr;
    char* text = nullptr;
    int result = library_.read(reply, "o", &path);
    if (result >= 0) {
      result = library_.get_string(bus_, kService, path, kUnit, "ActiveState", &error_, &text);
    }
    library_.unref(reply);
    RETURN_IF_ERROR(Failure(result, "ActiveState"));
    const std::unique_ptr<char, decltype(&free)> owned(text, &free);
    return std::string(text);
  }

 private:
  absl::Status Failure(int result, const char* what) {
    if (result >= 0) {
      return absl::OkStatus();
    }
    const std::string name = error_.name == nullptr ? "" : error_.name;
    const std::string words = StrCat(
        "systemd: ", what, ": ", error_.message == nullptr ? strerror(-result) : error_.message);
    library_.error_free(&error_);
    if (name == kNoSuchUnit) {
      return absl::NotFoundError(words);
    }
    // Without a name it is no answer: the connection broke, as when systemd executes itself anew.
    return name.empty() ? absl::UnavailableError(words) : absl::UnknownError(words);
  }

  const Library& library_;
  sd_bus* bus_ = nullptr;
  sd_bus_error error_ = SD_BUS_ERROR_NULL;
};

void Rest(const Context& ctx, int milliseconds) {
  pollfd cancelled = {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0};
  poll(&cancelled, 1, milliseconds);
}

absl::Status StopOnce(const Context& ctx, const Library& library, const std::string& unit) {
  Connection systemd(library);
  RETURN_IF_ERROR(systemd.Open(ctx));
  absl::Status stopped = systemd.Stop(unit);
  for (int rest = 2; stopped.ok(); rest = std::min(2 * rest, 50)) {
    const absl::StatusOr<std::string> state = systemd.ActiveState(unit);
    RETURN_IF_ERROR(state.status());
    if (*state == "inactive") {
      return absl::OkStatus();
    }
    if (*state == "failed") {
      return systemd.ResetFailed(unit);
    }
    stopped = ctx.Check();
    Rest(ctx, rest);
  }
  return stopped;
}

}  // namespace

bool SystemdIsInit() { return access("/run/systemd/system", F_OK) == 0; }

absl::Status StopSystemdUnit(const Context& ctx, const std::string& unit) {
  if (!SystemdIsInit()) {
    return absl::FailedPreconditionError("process 1 is not systemd");
  }
  RETURN_IF_ERROR(TheLibrary().status());
  for (;;) {
    const absl::Status status = StopOnce(ctx, *TheLibrary(), unit);
    if (absl::IsNotFound(status)) {
      return absl::OkStatus();
    }
    if (!absl::IsUnavailable(status) || !ctx.Check().ok()) {
      return Annotate(status, StrCat("stop the unit ", unit));
    }
    Rest(ctx, 50);
  }
}

}  // namespace base
