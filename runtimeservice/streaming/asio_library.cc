// Asio and Beast, compiled once: everything else sees their declarations only.

// clang-format off
#include <utility>  // Before Asio, which forgets it.
// clang-format on

#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
