// The page of one architecture: its card, and each figure over the commits.
(function (scenax) {
  'use strict';
  const { data, escape, number, withUnit, difference, changeHtml } = scenax;

  const SIZE = { width: 0, height: 170, left: 56, right: 12, top: 18, bottom: 22 };

  const papers = (text) => escape(text).replace(/arXiv (\d{4}\.\d{4,5})/g,
    '<a href="https://arxiv.org/abs/$1">arXiv $1</a>').replace(/``(.+?)``/g, '<code>$1</code>');

  function cardHtml(card, paragraphs, task) {
    const [about, sources] = (paragraphs || []).map(papers);
    if (!card) return '<p class="base">The registry has no architecture of this name any more.</p>';
    const facts = [['task', task]];
    if (card.tags.length) facts.push(['default weights', card.tag], ['license', card.license || 'not stated']);
    if (card.source) facts.push(['from', card.source]);
    facts.push([card.tags.length ? 'input' : 'default input', card.input_size.join(' x ')]);
    if (card.top1 != null) facts.push(['ImageNet top-1', `${card.top1} % at ${card.top1_size} pixels`]);
    const tags = card.tags.length ? `<dt>published weights</dt><dd>${
      card.tags.map((tag) => `<code>${escape(tag)}</code>`).join(' ')}</dd>` :
      '<dt>published weights</dt><dd>none</dd>';
    return `<div><p>${about || ''}</p><p class="soft">${sources || ''}</p></div><dl>${facts.map(([term, value]) =>
      `<dt>${term}</dt><dd>${escape(value)}</dd>`).join('')}${tags}</dl>`;
  }

  /** Where the last value before a position is, or -1. */
  function before(values, position) {
    let index = position - 1;
    while (index >= 0 && values[index] == null) index -= 1;
    return index;
  }

  function chartSvg(figure, { values, regressions }, commits) {
    const { width, height, left, right, top, bottom } = SIZE;
    const known = values.filter((value) => value != null);
    const middle = known[known.length >> 1];
    // Noise should look like noise: the height is at least four times as much.
    const margin = (figure.points ? 1 : Math.abs(middle) / 100) * Math.max(figure.noise, 0.5) * 2;
    const spread = Math.max(...known) - Math.min(...known) < margin ? [middle - margin, middle + margin] : [];
    const y = scenax.scale([...known, ...spread], false, [height - bottom, top], 4);
    const x = (index) => left + (index + 0.5) * (width - left - right) / commits.length;
    const [lines, dots] = scenax.paths(values, x, y.at);
    const grid = y.ticks.map((tick) => `<path class="grid" d="M${left} ${y.at(tick)}H${width - right}"/>
      <text x="${left - 6}" y="${y.at(tick)}" dy=".35em" text-anchor="end">${scenax.tick(figure, tick)}</text>`);
    const tags = commits.map((commit, index) => commit[3].length ? `<path class="release"
      d="M${x(index)} ${top}V${height - bottom}"/><text x="${x(index) + 3}" y="${top - 5}" class="release">${
      escape(commit[3].join(' '))}</text>` : '');
    const marks = regressions.map(([index]) => values[index] == null ? '' : `<path class="regression"
      d="M${x(index)} ${y.at(values[index]) - 13}l5 8h-10z"/>`);
    const [first, last] = [commits[0], commits[commits.length - 1]].map(scenax.date);
    const svg = `<svg viewBox="0 0 ${width} ${height}" aria-hidden="true">${grid.join('')}${tags.join('')}
      <text x="${left}" y="${height - 4}">${first}</text><text x="${width - right}" y="${height - 4}"
      text-anchor="end">${first === last ? '' : last}</text><path class="line" d="${lines}"/>
      <path class="line dots" d="${dots}"/>${marks.join('')}
      <path class="cursor"/><circle class="cursor" r="3.5"/></svg>`;
    return { svg, x, y: y.at };
  }

  /** A commit and its value as [HTML, text]. */
  function reading(figure, { values }, commits, index) {
    const earlier = before(values, index);
    const change = earlier < 0 ? null : difference(figure, values[earlier], values[index]);
    const value = withUnit(figure, values[index]);
    const text = `${scenax.short(commits[index])}, ${scenax.date(commits[index])}: ${value}${
      change ? `, ${change.text} ${change.verdict}` : ''}`;
    const told = values[index] == null || earlier < 0 ? '' : changeHtml(change) || 'as before';
    return [`<b>${value}</b> ${told}<br>${scenax.commitHtml(commits[index])}`, text];
  }

  function chartHtml(figure, series, commits) {
    const found = series.regressions.map(([index, from, to]) => `<li>${
      changeHtml(difference(figure, from, to))} at ${scenax.commitHtml(commits[index])}</li>`);
    return `<section class="chart" data-figure="${figure.key}"><h2>${escape(figure.title)}${
      figure.unit ? ` <small>${escape(figure.unit)}</small>` : ''}</h2>
      <div class="drawing" tabindex="0" role="slider" aria-label="${escape(figure.title)} by commit"
        aria-valuemin="0" aria-valuemax="${commits.length - 1}"></div>
      <p class="reading"></p>${scenax.notesOf([figure])}${found.length ? `<h3>Regressions</h3><ul class="regressions">${
        found.join('')}</ul>` : ''}</section>`;
  }

  /** Moves the cursor of all charts to a commit. */
  function point(main, charts, commits, index) {
    for (const { figure, series, x, y } of charts) {
      const section = main.querySelector(`[data-figure="${figure.key}"]`);
      const [html, text] = reading(figure, series, commits, index);
      const value = series.values[index];
      section.querySelector('path.cursor').setAttribute('d',
        `M${x(index)} ${SIZE.top}V${SIZE.height - SIZE.bottom}`);
      const dot = section.querySelector('circle');
      dot.style.display = value == null ? 'none' : '';
      if (value != null) dot.setAttribute('transform', `translate(${x(index)} ${y(value)})`);
      section.querySelector('.reading').innerHTML = html;
      const slider = section.querySelector('.drawing');
      slider.setAttribute('aria-valuenow', index);
      slider.setAttribute('aria-valuetext', text);
    }
  }

  const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10,
    Home: -Infinity, End: Infinity };

  function wireCharts(main, charts, commits) {
    const { at } = scenax.read().params;
    const wished = at ? commits.findIndex(([hash]) => hash.startsWith(at)) : -1;
    let index = wished < 0 ? commits.length - 1 : wished;
    const move = (next) => {
      index = Math.min(Math.max(next, 0), commits.length - 1);
      point(main, charts, commits, index);
    };
    const keep = () => {
      const { view, name, params } = scenax.read();
      const hash = scenax.short(commits[index]);
      history.replaceState(null, '', scenax.address(view, { ...params, at: hash }, name));
    };
    for (const slider of main.querySelectorAll('.drawing')) {
      slider.addEventListener('pointermove', ({ clientX }) => {
        const frame = slider.getBoundingClientRect();
        const x = (clientX - frame.left) / frame.width * SIZE.width - SIZE.left;
        move(Math.floor(x / (SIZE.width - SIZE.left - SIZE.right) * commits.length));
      });
      slider.addEventListener('click', keep);
      slider.addEventListener('keydown', (event) => {
        const step = KEYS[event.key];
        if (step === undefined) return;
        event.preventDefault();
        move(index + step);
        keep();
      });
    }
    move(index);
  }

  /** Draws the charts as wide as there is room, so that text keeps its size. */
  function drawCharts(main, figures, series, commits) {
    const boxes = [...main.querySelectorAll('.drawing')];
    SIZE.width = boxes[0]?.clientWidth || 0;
    return figures.map((figure, index) => {
      const chart = chartSvg(figure, series[figure.key], commits);
      boxes[index].innerHTML = chart.svg;
      return { ...chart, figure, series: series[figure.key] };
    });
  }

  async function draw(main) {
    const { name, params } = scenax.read();
    const machine = scenax.machine();
    const model = data.models.find(([known]) => known === name);
    const back = scenax.address('table', { machine: params.machine });
    if (!model) {
      main.innerHTML = `<h1>${escape(name) || 'No architecture'}</h1><p class="nothing">No result file has
        figures of it. <a href="${back}">All architectures</a></p>`;
      return;
    }
    const [, family, task] = model;
    const asked = location.hash;
    const [series, cards] = await Promise.all([
      scenax.load(`${machine.folder}/${scenax.slug(name)}`), scenax.load('cards')]);
    if (location.hash !== asked) return; // Another view was asked for meanwhile.
    const figures = data.figures.filter(({ key }) => series[key]);
    const charts = figures.map((figure) => chartHtml(figure, series[figure.key], machine.commits));
    const familyLink = scenax.address('table', { machine: params.machine, family });
    main.innerHTML = `<p class="path"><a href="${back}">Architectures</a> / <a href="${familyLink}">${
      escape(family)}</a></p><h1>${escape(name)}</h1>
      <section class="card" aria-label="Model card">${
        cardHtml(cards.models[name], cards.families[family], task)}</section>
      ${charts.length ? `<div class="charts">${charts.join('')}</div>` :
        '<p class="nothing">This machine has no figures of it.</p>'}${scenax.machineLine(machine)}`;
    wireCharts(main, drawCharts(main, figures, series, machine.commits), machine.commits);
  }

  scenax.views.model = { draw, resize: draw };
})(window.scenax);
