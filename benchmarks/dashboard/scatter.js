// Any figure against any other, with the Pareto front.
(function (scenax) {
  'use strict';
  const { data, escape, number, withUnit, mark } = scenax;

  const SIZE = { width: 0, height: 0, left: 56, right: 16, top: 18, bottom: 44 };
  const REACH = 24; // Pixels around a point within which the pointer means it.

  /** What papers say, beside what is measured here: of the default weights, at their own size. */
  const PUBLISHED = { key: 'top1', title: 'ImageNet top-1', unit: '%', points: true, higher: true,
    note: 'of the default weights, as published, and often at a larger size than FLOPs are counted for.' };

  const column = (machine, { key }) => key === 'top1' ? data.top1 : machine.figures[key].value;
  const available = (machine) => [...data.figures.filter(({ key }) => machine.figures[key]),
    ...data.top1.some((value) => value != null) ? [PUBLISHED] : []];

  /** The figures of both axes and whether they are logarithmic; score against FLOPs at first. */
  function axes(machine, params) {
    const figures = available(machine);
    const pick = (wish, ...others) => [wish, ...others].map((key) =>
      figures.find((figure) => figure.key === key)).find(Boolean) || figures[0];
    const x = pick(params.x, 'flops', 'parameters');
    const others = ['score', 'inference', 'parameters'].filter((key) => key !== x.key);
    const y = pick(params.y, ...others);
    const log = (wish, figure) => wish ? wish === '1' : !figure.points;
    return { x, y, xlog: log(params.xlog, x), ylog: log(params.ylog, y) };
  }

  function pointsOf(machine, { x, y, xlog, ylog }, rows) {
    return rows.map((index) => ({
      index,
      name: data.models[index][0],
      family: data.models[index][1],
      x: column(machine, x)[index],
      y: column(machine, y)[index],
    })).filter((point) => point.x != null && point.y != null &&
      !(xlog && point.x <= 0) && !(ylog && point.y <= 0));
  }

  function gridSvg(axis, xScale, yScale) {
    const { width, height, left, right, top, bottom } = SIZE;
    const lines = xScale.ticks.map((tick) => {
      const x = xScale.at(tick).toFixed(1);
      return `<path class="grid" d="M${x} ${top}V${height - bottom}"/>
        <text x="${x}" y="${height - bottom + 18}" text-anchor="middle">${scenax.tick(axis.x, tick)}</text>`;
    }).concat(yScale.ticks.map((tick) => {
      const y = yScale.at(tick).toFixed(1);
      return `<path class="grid" d="M${left} ${y}H${width - right}"/>
        <text x="${left - 8}" y="${y}" dy=".35em" text-anchor="end">${scenax.tick(axis.y, tick)}</text>`;
    }));
    const title = ({ title, unit }) => escape(unit ? `${title} (${unit})` : title);
    return `${lines.join('')}<text class="title" x="${width - right}" y="${height - 6}"
      text-anchor="end">${title(axis.x)} →</text><text class="title" x="${left + 6}" y="${top + 6}">↑ ${
      title(axis.y)}</text>`;
  }

  /** Names beside points of the front, where they do not cover one another. */
  function labels(front) {
    const taken = [];
    const apart = SIZE.width < 600 ? 44 : 16;
    return front.map((point) => {
      const width = point.name.length * 6;
      const x = Math.min(Math.max(point.px - width / 2, SIZE.left), SIZE.width - SIZE.right - width);
      const box = { x, y: point.py - 12, end: x + width };
      const clash = taken.some((other) => Math.abs(other.y - box.y) < apart &&
        box.x < other.end + 6 && other.x < box.end + 6);
      if (clash) return '';
      taken.push(box);
      return `<text class="label" x="${x + width / 2}" y="${box.y}" text-anchor="middle">${
        escape(point.name)}</text>`;
    }).join('');
  }

  const place = (point) => `translate(${point.px.toFixed(1)} ${point.py.toFixed(1)})`;

  const pointSvg = (point, first, axis, onFront) => `<a href="${linkTo(point.name)}"
    data-index="${point.index}" tabindex="${first ? 0 : -1}" transform="${place(point)}"
    aria-label="${escape(describe(point, axis))}"><path d="${mark(point.family).path}"
    fill="${mark(point.family).colour}"/>${onFront ? '<circle r="7.5" class="ring"/>' : ''}</a>`;

  const linkTo = (name) => scenax.address('model', { machine: scenax.read().params.machine }, name);

  const describe = (point, { x, y }) =>
    `${point.name}: ${y.title} ${withUnit(y, point.y)}, ${x.title} ${withUnit(x, point.x)}`;

  function plotSvg(points, front, axis) {
    const { width, height, left, right, top, bottom } = SIZE;
    const xScale = scenax.scale(points.map(({ x }) => x), axis.xlog, [left, width - right]);
    const yScale = scenax.scale(points.map(({ y }) => y), axis.ylog, [height - bottom, top]);
    for (const point of points) Object.assign(point, { px: xScale.at(point.x), py: yScale.at(point.y) });
    const line = front.map(({ px, py }) => `${px.toFixed(1)} ${py.toFixed(1)}`).join('L');
    const inFront = new Set(front);
    // In the order of x, which is the order of the arrow keys too.
    points.sort((a, b) => a.px - b.px || a.py - b.py);
    return `<svg viewBox="0 0 ${width} ${height}" role="group" aria-label="${escape(axis.y.title)} against ${
      escape(axis.x.title)}, ${points.length} architectures">${gridSvg(axis, xScale, yScale)}
      <path class="front" d="M${line}"/>${points.map((point, index) =>
        pointSvg(point, index === 0, axis, inFront.has(point))).join('')}${labels(front)}</svg>`;
  }

  function legend(machine, params, axis) {
    const chosen = params.family ? params.family.split(',') : [];
    const here = new Set(pointsOf(machine, axis, scenax.matching({ ...params, family: '' }))
      .map(({ family }) => family));
    return data.families.filter((family) => here.has(family)).map((family) => `<button type="button"
      data-family="${escape(family)}" aria-pressed="${chosen.includes(family)}"><svg viewBox="-7 -7 14 14"
      width="14" height="14" aria-hidden="true"><path d="${mark(family).path}"
      fill="${mark(family).colour}"/></svg>${escape(family)}</button>`).join('');
  }

  function frontTable(front, { x, y }) {
    const head = (figure) => `<th scope="col">${escape(figure.title)}${
      figure.unit ? ` <small>${escape(figure.unit)}</small>` : ''}</th>`;
    const rows = front.map((point) => `<tr><th scope="row"><a href="${linkTo(point.name)}">${
      scenax.breakable(point.name)}</a></th><td class="text">${escape(point.family)}</td><td>${number(x, point.x)}</td>
      <td>${number(y, point.y)}</td></tr>`);
    return `<h2>The front</h2><p class="base">Nothing shown is at least as good in both figures and better
      in one.</p><div class="scroll" tabindex="0" role="region" aria-label="The front"><table><thead><tr>
      <th scope="col">architecture</th><th scope="col" class="text">family</th>${head(x)}${head(y)}</tr></thead>
      <tbody>${rows.join('')}</tbody></table></div>`;
  }

  function tip(box, svg, point, axis) {
    svg.querySelectorAll('.near').forEach((item) => item.classList.remove('near'));
    box.hidden = !point;
    if (!point) return;
    svg.querySelector(`[data-index="${point.index}"]`).classList.add('near');
    const line = (figure, value) => `<br>${escape(figure.title)} <b>${withUnit(figure, value)}</b>`;
    box.innerHTML = `<strong>${escape(point.name)}</strong> ${escape(point.family)}${
      line(axis.y, point.y)}${line(axis.x, point.x)}`;
    const room = SIZE.width - box.offsetWidth - 4;
    const beside = point.px + 14 <= room ? point.px + 14 : Math.max(4, point.px - box.offsetWidth - 14);
    box.style.transform = `translate(${Math.min(beside, room)}px, ${
      Math.max(0, point.py - box.offsetHeight - 8)}px)`;
  }

  function nearest(points, svg, event) {
    const frame = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const distance = ({ px, py }) => Math.hypot(px - x, py - y);
    const best = points.reduce((a, b) => distance(b) < distance(a) ? b : a);
    return distance(best) <= REACH ? best : null;
  }

  /** The point that an arrow key leads to: left and right by x, up and down by y. */
  function neighbour(points, point, key) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1 }[key];
    if (!step) return key === 'Home' ? points[0] : key === 'End' ? points.at(-1) : null;
    const order = key === 'ArrowUp' || key === 'ArrowDown' ? [...points].sort((a, b) => b.py - a.py) : points;
    return order[order.indexOf(point) + step];
  }

  function wirePlot(plot, points, axis) {
    const svg = plot.querySelector('svg');
    const box = plot.querySelector('.tip');
    const byIndex = new Map(points.map((point) => [point.index, point]));
    const pointOf = (target) => byIndex.get(Number(target.closest('[data-index]')?.dataset.index));
    svg.addEventListener('pointermove', (event) => tip(box, svg, nearest(points, svg, event), axis));
    svg.addEventListener('pointerleave', () => tip(box, svg, null, axis));
    svg.addEventListener('focusin', (event) => tip(box, svg, pointOf(event.target), axis));
    svg.addEventListener('focusout', () => tip(box, svg, null, axis));
    svg.addEventListener('click', (event) => {
      const point = nearest(points, svg, event);
      if (!point || event.target.closest('a')) return;
      location.hash = linkTo(point.name);
    });
    svg.addEventListener('keydown', (event) => {
      const point = pointOf(event.target);
      const next = point && neighbour(points, point, event.key);
      if (!next) return;
      event.preventDefault();
      event.target.closest('a').tabIndex = -1;
      const link = svg.querySelector(`[data-index="${next.index}"]`);
      link.tabIndex = 0;
      link.focus();
    });
  }

  function fill(main) {
    const { params } = scenax.read();
    const machine = scenax.machine();
    const axis = axes(machine, params);
    const points = pointsOf(machine, axis, scenax.matching(params));
    const front = scenax.front(points, axis.x, axis.y);
    for (const name of ['xlog', 'ylog']) main.querySelector(`[name=${name}]`).checked = axis[name];
    for (const name of ['x', 'y']) main.querySelector(`[name=${name}]`).value = axis[name].key;
    main.querySelector('.legend').innerHTML = legend(machine, params, axis);
    const box = main.querySelector('.rows');
    SIZE.width = box.clientWidth - 14; // As wide as there is room, so that text keeps its size.
    SIZE.height = Math.min(Math.max(window.innerHeight - 300, 340), 0.75 * SIZE.width + 80);
    box.innerHTML = points.length ? `<div class="plot">${plotSvg(points, front, axis)}
      <div class="tip" hidden></div></div>${scenax.notesOf([axis.y, axis.x])}${frontTable(front, axis)}` : scenax.nothing;
    scenax.wireClear(box);
    if (points.length) wirePlot(box.querySelector('.plot'), points, axis);
  }

  function toggleFamily(family) {
    const chosen = (scenax.read().params.family || '').split(',').filter(Boolean);
    const others = chosen.filter((item) => item !== family);
    scenax.change({ family: (others.length < chosen.length ? others : [...chosen, family]).join(',') });
    document.querySelector(`[data-family="${family}"]`)?.focus();
  }

  function draw(main) {
    const { params } = scenax.read();
    const options = available(scenax.machine()).map(({ key, title }) =>
      `<option value="${key}">${escape(title)}</option>`).join('');
    const axisForm = (name, text) => `<span class="axis"><label>${text} <select name="${name}">${
      options}</select></label>${scenax.check(`${name}log`, 'log', false)}</span>`;
    main.innerHTML = `<h1>Figure against figure</h1>${scenax.filters(params,
      axisForm('y', 'Up') + axisForm('x', 'Right'), false)}
      <div class="legend" role="group" aria-label="Families"></div><div class="rows"></div>`;
    scenax.wire(main.querySelector('form'));
    main.querySelector('.legend').addEventListener('click', (event) => {
      const button = event.target.closest('[data-family]');
      if (button) toggleFamily(button.dataset.family);
    });
    fill(main);
  }

  scenax.views.scatter = { draw, fill, resize: fill };
})(window.scenax);
