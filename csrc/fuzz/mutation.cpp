#include "fuzz/mutation.h"

#include <cctype>
#include <cstring>
#include <vector>

#include "tests/draw.h"

namespace mobilequant::fuzz {
namespace {

using test::Draw;

struct Span {
    std::size_t first, last;  // [first, last)
};

std::string text_of(const std::string& text, const Span& span) {
    return text.substr(span.first, span.last - span.first);
}
void replace(std::string& text, const Span& span, const std::string& by) {
    text.replace(span.first, span.last - span.first, by);
}

template <class Value>
const Value& any_of(const std::vector<Value>& values, Draw& draw) {
    return values[draw.in<std::size_t>(0, values.size() - 1)];
}

// Where numbers and strings of a JSON text stand, and its objects and lists.
struct Places {
    std::vector<Span> numbers, strings, groups;

    explicit Places(const std::string& text) {
        std::vector<std::size_t> open;
        for (std::size_t at = 0; at < text.size(); ++at) {
            const char c = text[at];
            if (c == '"') {
                const std::size_t end = text.find('"', at + 1);
                if (end == std::string::npos) return;
                strings.push_back({at + 1, end});
                at = end;
            } else if (c == '-' || std::isdigit(static_cast<unsigned char>(c))) {
                const std::size_t end = std::min(text.find_first_not_of("+-.eE0123456789", at), text.size());
                numbers.push_back({at, end});
                at = end - 1;
            } else if (c == '{' || c == '[') {
                open.push_back(at);
            } else if ((c == '}' || c == ']') && !open.empty()) {
                groups.push_back({open.back(), at + 1});
                open.pop_back();
            }
        }
    }
};

std::string extreme_number(Draw& draw) {
    static const std::vector<std::string> kNumbers = {"0",
                                                      "1",
                                                      "-1",
                                                      "2",
                                                      "3",
                                                      "7",
                                                      "8",
                                                      "15",
                                                      "16",
                                                      "31",
                                                      "32",
                                                      "33",
                                                      "61",
                                                      "62",
                                                      "63",
                                                      "64",
                                                      "127",
                                                      "128",
                                                      "255",
                                                      "256",
                                                      "-127",
                                                      "-128",
                                                      "4096",
                                                      "16384",
                                                      "32767",
                                                      "-32767",
                                                      "-32768",
                                                      "32768",
                                                      "65536",
                                                      "4194304",
                                                      "2147483647",
                                                      "-2147483648",
                                                      "2147483648",
                                                      "4294967296",
                                                      "4611686018427387903",
                                                      "9223372036854775807",
                                                      "-9223372036854775808",
                                                      "1e300",
                                                      "5e-324",
                                                      "0.5"};
    return any_of(kNumbers, draw);
}

void change_number(std::string& text, Draw& draw) {
    const Places places(text);
    if (places.numbers.empty()) return;
    const Span at = any_of(places.numbers, draw);
    replace(text, at, draw.once_in(2) ? extreme_number(draw) : text_of(text, any_of(places.numbers, draw)));
}

void exchange_name(std::string& text, Draw& draw) {
    const Places places(text);
    if (places.strings.empty()) return;
    const Span at = any_of(places.strings, draw);
    replace(text, at, text_of(text, any_of(places.strings, draw)));
}

// An object or list vanishes, stands twice, or takes the place of another.
void move_part(std::string& text, Draw& draw) {
    const Places places(text);
    if (places.groups.empty()) return;
    const Span at = any_of(places.groups, draw);
    const std::string part = text_of(text, at);
    switch (draw.in(0, 2)) {
        case 0: {
            const std::size_t comma = text.find_first_not_of(" \n", at.last);
            replace(text, {at.first, comma != std::string::npos && text[comma] == ',' ? comma + 1 : at.last}, "");
            break;
        }
        case 1:
            replace(text, at, part + "," + part);
            break;
        default:
            replace(text, at, text_of(text, any_of(places.groups, draw)));
    }
}

// ── weights.safetensors ──────────────────────────────────────────────────────────────────────────────────────────────

struct Weights {
    std::string header, data;

    explicit Weights(const std::string& file) {
        std::uint64_t length = 0;
        if (file.size() < sizeof length) return;
        std::memcpy(&length, file.data(), sizeof length);
        length = std::min<std::uint64_t>(length, file.size() - sizeof length);
        header = file.substr(sizeof length, length);
        data = file.substr(sizeof length + length);
    }

    std::string file() const {
        std::string padded = header;
        while (padded.size() % 8) padded += ' ';
        const std::uint64_t length = padded.size();
        std::string bytes(sizeof length, '\0');
        std::memcpy(bytes.data(), &length, sizeof length);
        return bytes + padded + data;
    }
};

void change_weights(std::string& file, Draw& draw) {
    Weights weights(file);
    if (weights.data.empty()) return;
    static const std::vector<int> kBytes = {0x00, 0x7F, 0x80, 0x81, 0xFF, 0x01, 0x3E, 0x02};
    const std::size_t first = draw.in<std::size_t>(0, weights.data.size() - 1);
    const std::size_t last = std::min(weights.data.size(), first + draw.in<std::size_t>(1, draw.once_in(4) ? 4096 : 8));
    const bool random = draw.once_in(2);
    const int byte = any_of(kBytes, draw);
    for (std::size_t i = first; i < last; ++i) weights.data[i] = static_cast<char>(random ? draw.in(0, 255) : byte);
    file = weights.file();
}

void change_header(std::string& file, Draw& draw) {
    Weights weights(file);
    draw.once_in(3) ? exchange_name(weights.header, draw) : change_number(weights.header, draw);
    file = weights.file();
}

// The list of numbers behind "shape" of the entry `name`.
Span shape_of(const std::string& text, const std::string& name) {
    const std::size_t entry = text.find('"' + name + "\":");
    const std::size_t shape = entry == std::string::npos ? entry : text.find("\"shape\"", entry);
    const std::size_t first = shape == std::string::npos ? shape : text.find('[', shape);
    const std::size_t last = first == std::string::npos ? first : text.find(']', first);
    return last == std::string::npos ? Span{0, 0} : Span{first, last + 1};
}

// Another shape of as many elements, in both files.
void change_shape(Files& files, Draw& draw) {
    Weights weights(files.weights);
    const Places places(weights.header);
    if (places.strings.empty()) return;
    const std::string name = text_of(weights.header, any_of(places.strings, draw));
    const Span in_graph = shape_of(files.graph, name), in_header = shape_of(weights.header, name);
    if (in_graph.last == 0 || in_header.last == 0) return;
    std::uint64_t total = 1;
    const std::string shape = text_of(weights.header, in_header);
    for (const Span& number : Places(shape).numbers) total *= std::strtoull(shape.c_str() + number.first, nullptr, 10);
    const std::uint64_t divisor = any_of(std::vector<std::uint64_t>{1, 2, 3, 4, 8, 16, 48, 96}, draw);
    const std::string columns = std::to_string(divisor), rows = std::to_string(total / divisor);
    const std::vector<std::string> shapes = {"[" + rows + "," + columns + "]", "[" + columns + "," + rows + "]",
                                             "[" + rows + "]", "[" + rows + "," + columns + ",1]", "[0," + rows + "]"};
    const std::string by = any_of(shapes, draw);
    replace(files.graph, in_graph, by);
    replace(weights.header, in_header, by);
    files.weights = weights.file();
}

void change_bytes(std::string& text, Draw& draw) {
    if (text.empty()) return;
    const std::size_t at = draw.in<std::size_t>(0, text.size() - 1);
    switch (draw.in(0, 3)) {
        case 0:
            text.resize(at);
            break;
        case 1:
            text.insert(at, 1, static_cast<char>(draw.in(0, 255)));
            break;
        default:
            text[at] = static_cast<char>(text[at] ^ (1 << draw.in(0, 7)));
    }
}

void change(Files& files, Draw& draw) {
    const int kind = draw.in(0, 99);
    if (kind < 35) return change_number(files.graph, draw);
    if (kind < 52) return exchange_name(files.graph, draw);
    if (kind < 60) return move_part(files.graph, draw);
    if (kind < 82) return change_weights(files.weights, draw);
    if (kind < 87) return change_header(files.weights, draw);
    if (kind < 95) return change_shape(files, draw);
    change_bytes(draw.once_in(2) ? files.graph : files.weights, draw);
}

}  // namespace

Files mutate(const Files& files, std::uint64_t seed) {
    Draw draw(seed);
    Files mutant = files;
    for (int left = draw.once_in(2) ? 1 : draw.in(1, 4); left > 0; --left) change(mutant, draw);
    return mutant;
}

}  // namespace mobilequant::fuzz
