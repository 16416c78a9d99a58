// Two commits of a machine, side by side.
(function (scenax) {
  'use strict';
  const { data, escape, number, difference, changeHtml } = scenax;

  const FIRST_ROWS = 300; // Thousands of rows are drawn only for who asks for them.

  const find = (commits, wish, otherwise) => {
    const index = wish ? commits.findIndex(([hash]) => hash.startsWith(wish)) : -1;
    return index < 0 ? otherwise : index;
  };

  function chosen() {
    const { params } = scenax.read();
    const { commits, base } = scenax.machine();
    return [find(commits, params.base, base), find(commits, params.head, commits.length - 1)];
  }

  function commitSelect(name, text, commits) {
    const title = (commit) => [scenax.date(commit), scenax.short(commit), ...commit[3], commit[2]];
    const options = commits.map((commit) => `<option value="${commit[0]}">${
      escape(title(commit).filter(Boolean).join(' '))}</option>`);
    return `<label>${text} <select name="${name}">${options.reverse().join('')}</select></label>`;
  }

  /** Rows of values that differ or, with all, that either commit has; the largest change first. */
  function rowsOf(figures, before, after, indices, all) {
    const rows = [];
    for (const figure of figures) {
      for (const index of indices) {
        const [from, to] = [before.figures[figure.key]?.[index], after.figures[figure.key]?.[index]];
        const change = difference(figure, from, to);
        const gone = (from == null) !== (to == null);
        if (change?.verdict || gone || (all && from != null)) rows.push({ figure, index, from, to, change });
      }
    }
    const size = ({ change }) => change ? Math.abs(change.size) : -1;
    return rows.sort((a, b) => size(b) - size(a));
  }

  function told({ change, from, to }) {
    if (from == null) return 'only in head';
    if (to == null) return 'only in base';
    return changeHtml(change) || (from === to ? 'equal' : 'within noise');
  }

  const rowHtml = (machine) => (row) => {
    const { figure, index, from, to } = row;
    const name = data.names[index];
    const link = scenax.address('model', { machine: machine.name }, name);
    return `<tr><th scope="row"><a href="${link}">${scenax.breakable(name)}</a></th><td class="text">${
      escape(figure.title)}${figure.unit ? ` <small>${escape(figure.unit)}</small>` : ''}</td>
      <td>${number(figure, from)}</td><td>${number(figure, to)}</td><td>${told(row)}</td></tr>`;
  };

  const head = '<thead><tr><th scope="col">what</th><th scope="col" class="text">figure</th><th scope="col">base</th>' +
    '<th scope="col">head</th><th scope="col">change</th></tr></thead>';

  const tableHtml = (label, rows) => `<div class="scroll" tabindex="0" role="region" aria-label="${label}">
    <table>${head}<tbody>${rows.join('')}</tbody></table></div>`;

  function libraryHtml(machine, before, after, all) {
    const rows = machine.library.rows.map(([benchmark, parameter, unit], index) => {
      const [from, to] = [before.library[index], after.library[index]];
      return { benchmark, parameter, unit, from, to, change: difference(scenax.library(unit), from, to) };
    }).filter(({ change, from, to }) => all ? from != null || to != null : change?.verdict);
    rows.sort((a, b) => Math.abs(b.change?.size || 0) - Math.abs(a.change?.size || 0));
    if (!rows.length) return '<p class="base">Nothing of the library changed beyond noise.</p>';
    return tableHtml('Library', rows.map((row) => `<tr><th scope="row">${escape(row.benchmark)}</th>
      <td class="text">${escape(row.parameter)}</td><td>${escape(scenax.measured(row.from, row.unit))}</td>
      <td>${escape(scenax.measured(row.to, row.unit))}</td><td>${told(row)}</td></tr>`));
  }

  /** What the two were measured with, where this is known. */
  function notesHtml(before, after) {
    const line = (notes) => [...scenax.pairs(notes.versions), ...scenax.pairs(notes.conditions)].join(', ');
    const [from, to] = [line(before), line(after)];
    if (!from && !to) return '';
    if (from === to) return `<p class="base">Both with ${escape(from)}.</p>`;
    return `<p class="base">Base with ${escape(from || 'what is not known')}; head with ${
      escape(to || 'what is not known')}.</p>`;
  }

  function summary(rows) {
    const count = (test) => rows.filter(test).length;
    const parts = [[count(({ change }) => change?.verdict === 'worse'), 'worse'],
      [count(({ change }) => change?.verdict === 'better'), 'better'],
      [count(({ from }) => from == null), 'only in head'], [count(({ to }) => to == null), 'only in base']];
    return parts.map(([number, text]) => `${number} ${text}`).join(' · ');
  }

  async function fill(main) {
    const { params } = scenax.read();
    const machine = scenax.machine();
    const hashes = chosen().map((index) => machine.commits[index][0]);
    ['base', 'head'].forEach((name, side) => {
      main.querySelector(`[name=${name}]`).value = hashes[side];
    });
    main.querySelector('[name=changed]').checked = params.changed !== '0';
    const asked = location.hash;
    const [before, after] = await Promise.all(hashes.map((hash) =>
      scenax.load(`${machine.folder}/commits/${hash}`)));
    if (location.hash !== asked) return; // Another view was asked for meanwhile.
    const all = params.changed === '0';
    const figures = data.figures.filter(({ key }) => machine.figures[key]);
    const rows = rowsOf(figures, before, after, scenax.matching(params), all);
    const html = rows.map(rowHtml(machine));
    const box = main.querySelector('.rows');
    const more = html.length > FIRST_ROWS ?
      `<button type="button" data-more>Show all ${html.length} rows</button>` : '';
    const none = scenax.matching(params).length ?
      '<p class="nothing">Nothing differs beyond noise.</p>' : scenax.nothing;
    box.innerHTML = `${notesHtml(before, after)}<p class="base" id="summary" aria-live="polite">${
      summary(rows)}</p>${html.length ? tableHtml('Changes', html.slice(0, FIRST_ROWS)) + more : none}
      <h2>Library</h2>${libraryHtml(machine, before, after, all)}`;
    scenax.wireClear(box);
    box.querySelector('[data-more]')?.addEventListener('click', ({ target }) => {
      box.querySelector('tbody').innerHTML = html.join('');
      target.remove();
    });
  }

  async function draw(main) {
    const { params } = scenax.read();
    const { commits } = scenax.machine();
    main.innerHTML = `<h1>Two commits</h1>${scenax.filters(params, commitSelect('base', 'Base', commits) +
      commitSelect('head', 'Head', commits) +
      scenax.check('changed', 'only changed', true))}<div class="rows"></div>`;
    scenax.wire(main.querySelector('form'));
    await fill(main);
  }

  scenax.views.compare = { draw, fill };
})(window.scenax);
