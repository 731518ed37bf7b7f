// ModulationFactors.
#pragma once

#include "../modulation.h"
#include "node.h"

namespace edgegrain {

template <class T, bool kCuda>
class ModulationFactorsKernel {
 public:
  explicit ModulationFactorsKernel(const Node& node)
      : demodulate_(node.attributes.flag("demodulate", true)), normalize_(node.attributes.flag("normalize")),
        epsilon_(node.attributes.number("epsilon", 1e-8f)) {}

  static std::vector<Shape> output_shapes(const Attributes&, const std::vector<Shape>& inputs) {
    const bool known = inputs.size() > 1 && !inputs[1].empty() ? inputs[1][0] >= 0
                                                               : inputs.size() > 2 && !inputs[2].empty();
    if (!known) return {};
    return {inputs[0], {inputs[0][0], outputs(inputs)}};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input style = input(context, 0), squares = input(context, 1), norm = input(context, 2);
    const std::int64_t gains = outputs({style.shape, squares.shape, norm.shape});
    if (demodulate_ && !squares) refuse("with demodulate, squares must be given");
    ModulationFactors<kCuda ? 1 : 16> kernel{};
    constexpr int kItem = kCuda ? 1 : 16;
    kernel.style = static_cast<const float*>(style.data);
    kernel.squares = static_cast<const float*>(squares.data);
    kernel.norm = static_cast<const float*>(norm.data);
    kernel.factors = static_cast<float*>(output(context, 0, style.shape));
    if (context.GetOutputCount() > 1) {
      kernel.gain = static_cast<float*>(output(context, 1, {style.shape[0], gains}));
    }
    kernel.channels = count(style.shape[1]), kernel.outputs = count(gains);
    kernel.gain_items = count(pieces(gains, kItem)), kernel.style_items = count(pieces(style.shape[1], kItem));
    kernel.demodulate = demodulate_, kernel.normalize = normalize_, kernel.epsilon = epsilon_;
    run<kCuda>(context, kernel, style.shape[0] * (kernel.gain_items + kernel.style_items));
  }

 private:
  // O, from squares [C, O] or norm [1, O].
  static std::int64_t outputs(const std::vector<Shape>& inputs) {
    const Shape& style = inputs[0];
    const Shape squares = inputs.size() > 1 ? inputs[1] : Shape{}, norm = inputs.size() > 2 ? inputs[2] : Shape{};
    if (style.size() != 2) refuse("style must be [B, C], got " + text(style));
    if (squares.empty() && norm.empty()) refuse("squares or norm must be given");
    if (!squares.empty() && (squares.size() != 2 || squares[0] != style[1])) {
      refuse("squares must be [" + std::to_string(style[1]) + ", O], got " + text(squares));
    }
    const std::int64_t gains = squares.empty() ? norm.back() : squares[1];
    if (!norm.empty() && norm != Shape{1, gains}) {
      refuse("norm must be " + text({1, gains}) + ", got " + text(norm));
    }
    return gains;
  }

  bool demodulate_, normalize_;
  float epsilon_;
};

}  // namespace edgegrain
