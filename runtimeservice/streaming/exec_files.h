// The files of one exec, in a folder of its own: what it takes to end it after whoever started it
// has died. Names follow the folder's path.
#pragma once

namespace streaming {

inline constexpr char kContainerFile[] = "/container";   // The container's id.
inline constexpr char kProcessFile[] = "/process.json";  // The OCI process object.
inline constexpr char kPidFile[] = "/pid";               // Of the process, by the runtime.
inline constexpr char kInnerPidFile[] = "/inner-pid";    // Its number within a sandbox.
inline constexpr char kLogFile[] = "/log";               // The runtime's own words.
inline constexpr char kConsoleSocket[] = "/console";     // Where the runtime sends the terminal.

}  // namespace streaming
