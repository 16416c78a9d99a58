// Sparklines, drawn when their rows come near the window.
(function (scenax) {
  'use strict';

  const WIDTH = 56;
  const HEIGHT = 16;

  /** The paths of a series, of which null is a gap: [lines, lone points]. */
  function paths(values, x, y) {
    let lines = '';
    let dots = '';
    values.forEach((value, index) => {
      if (value == null) return;
      const open = index > 0 && values[index - 1] != null;
      const point = `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      lines += `${open ? 'L' : 'M'}${point}`;
      if (!open && values[index + 1] == null) dots += `M${point}h0`;
    });
    return [lines, dots];
  }

  function svg(digits) {
    const values = [...digits].map((digit) => digit === '.' ? null : parseInt(digit, 16));
    const x = (index) => 1.5 + index * (WIDTH - 3) / (values.length - 1);
    const y = (level) => HEIGHT - 2 - level * (HEIGHT - 4) / 15;
    const [lines, dots] = paths(values, x, y);
    return `<svg class="spark" width="${WIDTH}" height="${HEIGHT}" aria-hidden="true"><path d="${lines}"/>` +
      `<path class="dots" d="${dots}"/></svg>`;
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      for (const cell of target.querySelectorAll('[data-spark]:not([data-spark=""])')) {
        cell.insertAdjacentHTML('afterbegin', svg(cell.dataset.spark));
      }
    }
  }, { rootMargin: '300px' });

  function watch(box) {
    observer.disconnect();
    for (const row of box.querySelectorAll('tbody tr')) observer.observe(row);
  }

  Object.assign(scenax, { paths, watchSparks: watch });
})(window.scenax);
