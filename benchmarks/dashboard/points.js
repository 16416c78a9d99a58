// Scales, ticks, marks and the Pareto front of a scatter plot.
(function (scenax) {
  'use strict';

  const COLOURS = 8;
  // As paths around the origin: each family has a colour and a shape, so that none hangs on colour.
  const SHAPES = [
    'M4.2 0A4.2 4.2 0 1 1-4.2 0A4.2 4.2 0 1 1 4.2 0Z',
    'M0-5L4.8 3.6H-4.8Z',
    'M-3.7-3.7H3.7V3.7H-3.7Z',
    'M0-5.2L5.2 0L0 5.2L-5.2 0Z',
  ];

  function mark(family) {
    const index = scenax.data.families.indexOf(family);
    return { colour: `var(--c${index % COLOURS})`, path: SHAPES[Math.floor(index / COLOURS) % 4] };
  }

  function linearTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) {
      ticks.push(Number(tick.toPrecision(12)));
    }
    return ticks;
  }

  function logTicks(low, high) {
    const ticks = [];
    const narrow = high / low < 30;
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
      for (const factor of narrow ? [1, 2, 5] : [1]) {
        const tick = factor * power;
        if (tick >= low && tick <= high) ticks.push(Number(tick.toPrecision(12)));
      }
    }
    return ticks.length > 1 ? ticks : linearTicks(low, high, 3);
  }

  /** A scale from values to pixels between start and end, with its ticks. */
  function scale(values, log, [start, end], count = 5) {
    let low = Math.min(...values);
    let high = Math.max(...values);
    const wide = log ? Math.max((high / low) ** 0.05, 1.02) : (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    [low, high] = log ? [low / wide, high * wide] : [low - wide, high + wide];
    const turn = log ? Math.log : Number;
    const at = (value) => start + (turn(value) - turn(low)) / (turn(high) - turn(low)) * (end - start);
    return { at, ticks: log ? logTicks(low, high) : linearTicks(low, high, count) };
  }

  /** The points than which none is as good both ways and better in one, by what x says. */
  function front(points, xFigure, yFigure) {
    const [xSign, ySign] = [xFigure, yFigure].map((figure) => figure.higher ? -1 : 1);
    const order = [...points].sort((a, b) => (a.x - b.x) * xSign || (a.y - b.y) * ySign);
    let best = Infinity;
    return order.filter((point) => {
      const better = point.y * ySign < best;
      if (better) best = point.y * ySign;
      return better;
    });
  }

  Object.assign(scenax, { mark, scale, front });
})(window.scenax);
