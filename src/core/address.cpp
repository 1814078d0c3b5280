// SPDX-License-Identifier: Apache-2.0
#include "core/address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "core/refuse.hpp"

namespace posthouse::core {
namespace {

bool in(std::array<std::uint8_t, 16> const& address, std::array<std::uint8_t, 16> const& network, int bits) noexcept {
  for (std::size_t i = 0; bits > 0; ++i, bits -= 8) {
    auto const mask = static_cast<std::uint8_t>(bits >= 8 ? 0xFF : 0xFF << (8 - bits));
    if ((address[i] & mask) != (network[i] & mask)) return false;
  }
  return true;
}

struct Network4 {
  std::uint8_t a, b, c;
  int bits;
  Reach reach;
};

// IANA's registry of special-purpose addresses.
constexpr Network4 kSpecial4[] = {
    {0, 0, 0, 8, Reach::special},       {10, 0, 0, 8, Reach::private_net},    {100, 64, 0, 10, Reach::private_net},
    {127, 0, 0, 8, Reach::loopback},    {169, 254, 0, 16, Reach::link_local}, {172, 16, 0, 12, Reach::private_net},
    {192, 0, 0, 24, Reach::special},    {192, 0, 2, 24, Reach::special},      {192, 31, 196, 24, Reach::special},
    {192, 52, 193, 24, Reach::special}, {192, 88, 99, 24, Reach::special},    {192, 168, 0, 16, Reach::private_net},
    {192, 175, 48, 24, Reach::special}, {198, 18, 0, 15, Reach::special},     {198, 51, 100, 24, Reach::special},
    {203, 0, 113, 24, Reach::special},  {224, 0, 0, 4, Reach::special},       {240, 0, 0, 4, Reach::special},
};

Reach reach_of_v4(std::uint8_t const* at) noexcept {
  auto const value = (static_cast<std::uint32_t>(at[0]) << 24U) | (static_cast<std::uint32_t>(at[1]) << 16U) |
                     (static_cast<std::uint32_t>(at[2]) << 8U) | at[3];
  for (auto const& one : kSpecial4) {
    auto const network = (static_cast<std::uint32_t>(one.a) << 24U) | (static_cast<std::uint32_t>(one.b) << 16U) |
                         (static_cast<std::uint32_t>(one.c) << 8U);
    auto const mask = ~std::uint32_t{0} << static_cast<unsigned>(32 - one.bits);
    if ((value & mask) == network) return one.reach;
  }
  return Reach::global;
}

}  // namespace

std::optional<Address> Address::parse(std::string_view text) {
  std::string const copy(text);
  std::array<std::uint8_t, 4> four{};
  // inet_pton takes four decimal numbers and nothing else.
  if (copy.find('\0') != std::string::npos) return std::nullopt;
  if (::inet_pton(AF_INET, copy.c_str(), four.data()) == 1) return v4(four[0], four[1], four[2], four[3]);
  Address result;
  if (::inet_pton(AF_INET6, copy.c_str(), result.bytes.data()) == 1) return result;
  return std::nullopt;
}

Address Address::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept {
  Address result;
  result.bytes[10] = result.bytes[11] = 0xFF;
  result.bytes[12] = a;
  result.bytes[13] = b;
  result.bytes[14] = c;
  result.bytes[15] = d;
  return result;
}

bool Address::is_v4() const noexcept { return in(bytes, v4(0, 0, 0, 0).bytes, 96); }

std::string Address::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  bool const four = is_v4();
  ::inet_ntop(four ? AF_INET : AF_INET6, bytes.data() + (four ? 12 : 0), buffer.data(), buffer.size());
  return buffer.data();
}

Reach reach_of(Address const& address) noexcept {
  auto const& b = address.bytes;
  if (address.is_v4()) return reach_of_v4(b.data() + 12);
  if (in(b, {}, 127)) return b[15] == 1 ? Reach::loopback : Reach::special;  // ::1 and ::
  if (in(b, {}, 96)) return reach_of_v4(b.data() + 12) == Reach::global ? Reach::special : reach_of_v4(b.data() + 12);
  if (in(b, {0x00, 0x64, 0xFF, 0x9B}, 96)) return reach_of_v4(b.data() + 12);  // NAT64
  if (in(b, {0x20, 0x02}, 16)) return reach_of_v4(b.data() + 2);               // 6to4
  if (in(b, {0xFC}, 7)) return Reach::private_net;
  if (in(b, {0xFE, 0x80}, 10)) return Reach::link_local;
  if (in(b, {0xFE, 0xC0}, 10)) return Reach::private_net;  // site-local, as it once was
  if (!in(b, {0x20}, 3)) return Reach::special;            // nothing else is handed out
  if (in(b, {0x20, 0x01}, 23)) return Reach::special;      // Teredo, ORCHID and the like
  if (in(b, {0x20, 0x01, 0x0D, 0xB8}, 32)) return Reach::special;
  if (in(b, {0x3F, 0xFF}, 20)) return Reach::special;
  return Reach::global;
}

std::string_view name_of(Reach reach) noexcept {
  switch (reach) {
    case Reach::global:
      return "public";
    case Reach::loopback:
      return "loopback";
    case Reach::private_net:
      return "private";
    case Reach::link_local:
      return "link-local";
    case Reach::special:
      break;
  }
  return "reserved";
}

AddressRule::AddressRule(std::string_view argument, std::string_view text) {
  for (auto const reach : {Reach::loopback, Reach::private_net, Reach::link_local}) {
    if (text == name_of(reach)) reach_ = reach;
  }
  if (reach_) return;
  auto const slash = text.find('/');
  auto const address = Address::parse(text.substr(0, slash));
  int const most = address && address->is_v4() ? 32 : 128;
  int bits = most;
  bool right = address.has_value();
  if (right && slash != std::string_view::npos) {
    auto const digits = text.substr(slash + 1);
    auto const [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    right = !digits.empty() && code == std::errc{} && end == digits.data() + digits.size() && bits >= 0 && bits <= most;
  }
  if (!right) {
    refuse(argument, text, "loopback, private, link-local, an address, or a network such as 10.1.0.0/16 or fd00::/8",
           "");
  }
  network_ = *address;
  bits_ = bits + 128 - most;
}

bool AddressRule::matches(Address const& address) const noexcept {
  if (reach_) return reach_of(address) == *reach_;
  return in(address.bytes, network_.bytes, bits_);
}

bool is_allowed(Address const& address, std::vector<AddressRule> const& rules) noexcept {
  if (reach_of(address) == Reach::global) return true;
  return std::any_of(rules.begin(), rules.end(), [&](AddressRule const& rule) { return rule.matches(address); });
}

}  // namespace posthouse::core
